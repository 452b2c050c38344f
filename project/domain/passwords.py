"""Passwords: generated ones derived from the idempotency key, chosen ones checked, both kept as tagged hashes."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""32 letters without look-alikes (no l, o, 0, 1): five bits each."""
_LETTERS = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", ALPHABET.encode())
"""From the letters of base32 (RFC 4648, 6), of which 35 bytes make 56 without padding, to ours."""
SYMBOLS = 26
"""26 symbols of five bits are 130 bits: above the 112 that NIST SP 800-63B asks of a secret kept under a fast hash
(5.1.2.2) and the 128 of ASVS 5.0.0, 11.5.1."""
GROUP = 5
MAX_LENGTH = 128
"""A longer password is refused before it is hashed: hashing must not become a way to keep the service busy."""
MIN_CHOSEN_LENGTH = 15
"""NIST SP 800-63B-4, 3.1.1.2: at least 15 characters where the password is the only factor."""

_FAST, _SLOW = "hmac-sha256", "argon2id"
_argon2 = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""OWASP Password Storage Cheat Sheet: argon2id, 19 MiB, two passes, one lane."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A key of the service with a name of its own, so that what it made can be found again after a rotation."""

    value: bytes = field(repr=False)
    kid: str = field(init=False)
    """Name of the key: the start of its hash, so nobody has to invent or configure one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kid", hashlib.sha256(b"useradd/kid/v1\0" + self.value).hexdigest()[:8])


@dataclass(frozen=True, slots=True)
class Passwords:
    """Issues and checks passwords with the secrets of this service: the first one issues, all of them check."""

    secrets: tuple[Secret, ...]
    scheme: str = _FAST
    """`hmac-sha256` or `argon2id`: how generated passwords are kept."""
    decoys: tuple[str, str] = field(init=False, repr=False)
    """Hashes, fast and slow, that no password opens: checking them costs what checking a real one costs."""

    def __post_init__(self) -> None:
        nobody = secrets.token_hex(32)
        object.__setattr__(self, "decoys", (self._fast_hash(nobody), self.hash_chosen(nobody)))

    @property
    def kid(self) -> str:
        """Name of the secret that issues."""
        return self.secrets[0].kid

    def derive(self, key: str, username: str, kid: str | None = None) -> str:
        """Return the password of this idempotency key and username; the same again whenever it is asked for.

        Neither the database (it has only hashes of key and password) nor the secret alone gives it away.
        Raises KeyError when the secret named `kid` is gone.
        """
        message = b"\0".join((b"useradd/pw/v1", key.encode(), username.encode()))
        digest = hmac.digest(self._secret(kid or self.kid), message, "sha256")
        symbols = base64.b32encode(b"\0\0\0" + digest).translate(_LETTERS).decode()[: -SYMBOLS - 1 : -1]
        groups = [symbols[start : start + GROUP] for start in range(0, SYMBOLS - 1, GROUP)]
        return "-".join(groups) + symbols[SYMBOLS - 1]

    def line_key(self, number: int, content: bytes) -> str:
        """Return the idempotency key of a line of a file: the same for the same content in the same place."""
        message = b"\0".join((b"useradd/line/v1", str(number).encode(), content))
        return base64.urlsafe_b64encode(hmac.digest(self.secrets[0].value, message, "sha256")).decode().rstrip("=")

    def hash_generated(self, password: str) -> str:
        """Return the tagged hash of a password with at least 112 bits of chance in it."""
        return self.hash_chosen(password) if self.scheme == _SLOW else self._fast_hash(password)

    def hash_chosen(self, password: str) -> str:
        """Return the tagged hash of a password that a person thought up: slow on purpose (about 30 ms)."""
        return f"{_SLOW}{_argon2.hash(password).removeprefix('$' + _SLOW)}"

    def verify(self, password: str, stored: str) -> bool:
        """Tell whether `stored` is the hash of `password`, whichever scheme made it. Never raises."""
        scheme = stored.partition("$")[0]
        check = _VERIFIERS.get(scheme)
        return check is not None and len(password) <= MAX_LENGTH and check(self, password, stored)

    def open_one(self, password: str, hashes: Sequence[str]) -> int | None:
        """Return the place of the hash that `password` opens, or None.

        A miss costs one slow check whether there were hashes or not and whichever scheme made them, so that the
        time tells a stranger nothing (ASVS 5.0.0, 6.3.8).
        """
        fast_decoy, slow_decoy = self.decoys
        tried = list(hashes) or [fast_decoy]
        opened = [place for place, stored in enumerate(tried) if self.verify(password, stored)]
        if not opened and not any(stored.startswith(_SLOW) for stored in tried):
            self.verify(password, slow_decoy)
        return opened[0] if opened else None

    def _fast_hash(self, password: str, salt: bytes | None = None, kid: str | None = None) -> str:
        salt = salt or secrets.token_bytes(16)
        digest = hmac.digest(self._secret(kid or self.kid), salt + password.encode(), "sha256")
        return "$".join((_FAST, kid or self.kid, _encode(salt), _encode(digest)))

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


_VERIFIERS: dict[str, Callable[[Passwords, str, str], bool]] = {
    _FAST: Passwords._verify_fast,
    _SLOW: Passwords._verify_slow,
}


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def new_key() -> str:
    """Return a fresh idempotency key for a request that brought none: 128 bits of chance."""
    return secrets.token_urlsafe(24)


def hash_key(key: str) -> bytes:
    """Return what is kept of an idempotency key."""
    return hashlib.sha256(key.encode()).digest()
