"""Derives passwords from idempotency keys; hashes and verifies passwords."""

import base64
import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from project.domain.text import trim

ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""Symbols of generated passwords and API keys: 32 without look-alikes (no l, o, 0, 1), five bits each."""
SYMBOL_COUNT = 26
"""Number of symbols of a generated password or API key. 26 symbols are 130 bits. NIST SP 800-63B (5.1.2.2) requires 112
bits for a secret with a fast hash, ASVS 5.0.0 (11.5.1) requires 128."""
GROUP_LENGTH = 5
"""Number of symbols between the dashes of a generated password."""
MAX_LENGTH = 128
"""Maximum length of a password. Hashing much longer passwords would allow denial of service."""
MIN_CHOSEN_LENGTH = 15
"""Minimum length of a chosen password (NIST SP 800-63B-4, 3.1.1.2, if the password is the only factor)."""

_FAST, _SLOW = "hmac-sha256", "argon2id"
_argon2 = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""Parameters of the OWASP Password Storage Cheat Sheet: argon2id, 19 MiB, two passes, one lane."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret from which passwords are derived. Its ID is stored, so that it can be rotated."""

    value: bytes = field(repr=False)
    kid: str = field(init=False)
    """The key ID: the first 8 hexadecimal digits of a hash of the secret, so that no ID has to be configured."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kid", hashlib.sha256(b"useradd/kid/v1\0" + self.value).hexdigest()[:8])


@dataclass(frozen=True, slots=True)
class Passwords:
    """Derives, hashes and verifies passwords. The first secret is used for new passwords."""

    secrets: tuple[Secret, ...]
    scheme: str = _FAST
    """Hash function for generated passwords: `hmac-sha256` or `argon2id`."""
    decoys: tuple[str, str] = field(init=False, repr=False)
    """A fast and a slow hash of a random password. If there is no user, they are verified to take the same time."""

    def __post_init__(self) -> None:
        unknown = secrets.token_hex(32)
        object.__setattr__(self, "decoys", (self._fast_hash(unknown), self.hash_chosen(unknown)))

    @property
    def kid(self) -> str:
        """ID of the secret that derives new passwords."""
        return self.secrets[0].kid

    def derive(self, key: str, username: str, kid: str | None = None) -> str:
        """Derive the password for an idempotency key and a username, deterministically.

        The password can be derived neither from the database, which has only hashes of key and password, nor from the
        secret alone. Raises KeyError if the secret `kid` is no longer configured.
        """
        message = b"\0".join((b"useradd/pw/v1", key.encode(), username.encode()))
        digest = hmac.digest(self._secret(kid or self.kid), message, "sha256")
        return _group_symbols(_symbols(digest))

    def derive_api_key_symbols(self, idempotency_key: str) -> str:
        """Derive the 26 symbols of an API key after its prefix, deterministically."""
        message = b"useradd/api-key/v1\0" + idempotency_key.encode()
        return _symbols(hmac.digest(self._secret(self.kid), message, "sha256"))

    def derive_import_key(self, import_id: str = "", kid: str | None = None) -> str:
        """Return the key of an import, from which the idempotency keys of its rows are derived.

        The key depends on the secret, so that nobody can guess it, and on `import_id`, which is "" for all files that
        the command line imports. Raises KeyError if the secret `kid` is no longer configured.
        """
        message = b"\0".join((b"useradd/import/v1", import_id.encode()))
        digest = hmac.digest(self._secret(kid or self.kid), message, "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def hash_generated(self, password: str) -> str:
        """Hash a generated password by `scheme`; return the hash with the scheme as prefix."""
        return self.hash_chosen(password) if self.scheme == _SLOW else self._fast_hash(password)

    def hash_chosen(self, password: str) -> str:
        """Return the argon2id hash of a password chosen by a user. Slow on purpose (about 30 ms)."""
        return f"{_SLOW}{_argon2.hash(password).removeprefix('$' + _SLOW)}"

    def verify(self, password: str, stored: str) -> bool:
        """Return whether `stored` is a hash of `password`, in any scheme. Never raises."""
        verify = {_FAST: self._verify_fast, _SLOW: self._verify_slow}.get(stored.partition("$")[0])
        if verify is None or len(password) > MAX_LENGTH:
            return False
        return any(verify(spelling, stored) for spelling in _spellings(password))

    def find_matching_hash(self, password: str, hashes: Sequence[str]) -> int | None:
        """Return the index of the hash that matches `password`, or None.

        A mismatch takes at least one slow verification, even if there is no slow hash, so that the
        response time does not reveal whether a user exists (ASVS 5.0.0, 6.3.8).
        """
        fast_decoy, slow_decoy = self.decoys
        candidates = list(hashes) or [fast_decoy]
        matches = [index for index, stored in enumerate(candidates) if self.verify(password, stored)]
        if not matches and not any(stored.startswith(_SLOW) for stored in candidates):
            self.verify(password, slow_decoy)
        return matches[0] if matches else None

    def _fast_hash(self, password: str, salt: bytes | None = None, kid: str | None = None) -> str:
        salt = salt or secrets.token_bytes(16)
        digest = hmac.digest(self._secret(kid or self.kid), salt + password.encode(), "sha256")
        return "$".join((_FAST, kid or self.kid, _encode_base64(salt), _encode_base64(digest)))

    def _verify_fast(self, password: str, stored: str) -> bool:
        try:
            _, kid, salt, _ = stored.split("$")
            expected = self._fast_hash(password, base64.b64decode(salt), kid)
        except (ValueError, KeyError):
            return False
        return hmac.compare_digest(expected.encode(), stored.encode(errors="replace"))

    def _verify_slow(self, password: str, stored: str) -> bool:
        try:
            return _argon2.verify("$" + stored, password)
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False

    def _secret(self, kid: str) -> bytes:
        for secret in self.secrets:
            if secret.kid == kid:
                return secret.value
        raise KeyError(kid)


def _spellings(password: str) -> Iterator[str]:
    """Yield a password as it was sent and, if different, in normalized form.

    A generated password is normalized to lower case with dashes between groups, so that letter case and separators do
    not matter. Any other password is normalized by removing surrounding blanks.
    """
    yield password
    symbols = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", password).lower()))
    is_generated = len(symbols) == SYMBOL_COUNT and set(symbols) <= set(ALPHABET)
    normalized = _group_symbols(symbols) if is_generated else trim(password)
    if normalized != password:
        yield normalized


def _symbols(digest: bytes) -> str:
    number = int.from_bytes(digest, "big")
    return "".join([ALPHABET[number >> 5 * index & 31] for index in range(SYMBOL_COUNT)])


def _group_symbols(symbols: str) -> str:
    groups = [symbols[start : start + GROUP_LENGTH] for start in range(0, SYMBOL_COUNT - 1, GROUP_LENGTH)]
    return "-".join(groups) + symbols[SYMBOL_COUNT - 1]


def _encode_base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def new_idempotency_key() -> str:
    """Return a new idempotency key with 192 bits of randomness."""
    return secrets.token_urlsafe(24)


def hash_idempotency_key(key: str) -> bytes:
    """Return the SHA-256 of an idempotency key, which is stored instead of the key."""
    return hashlib.sha256(key.encode()).digest()
