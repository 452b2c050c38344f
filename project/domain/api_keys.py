"""API keys, which authenticate programs."""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

from project.domain.passwords import ALPHABET, SYMBOLS, Passwords
from project.domain.text import trimmed_name

PREFIX = "useradd_"
"""Beginning of every key, by which people and secret scanners recognize it."""
MAX_NAME_LENGTH = 100
SHOWN_LENGTH = len(PREFIX) + 3
"""Number of characters that are stored and shown; the others still have the 112 bits that an unsalted hash needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A stored key, without its secret."""

    id: UUID
    name: str
    created_at: datetime
    revoked_at: datetime | None
    prefix: str | None
    last_used: date | None
    """Day of the last use in UTC; kept for the previous version, which does not know `last_used_at`."""
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A new key. Its secret exists only here and in the response."""

    name: str
    key: str = field(repr=False)


def new_api_key() -> str:
    """Return a new key with 130 bits of randomness."""
    return PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(SYMBOLS))


def derive_api_key(passwords: Passwords, key: str) -> str:
    """Return the API key that is derived from the key of a form."""
    return PREFIX + passwords.derive_symbols(key)


def normalize_name(name: str) -> str:
    """Return the name of an API key, stripped and in NFC. Raises RuleError."""
    return trimmed_name(name, MAX_NAME_LENGTH)


def hash_api_key(key: str) -> bytes:
    """Return the SHA-256 of a key: random keys need no slow hash (NIST SP 800-63B, 5.1.2.2)."""
    return hashlib.sha256(key.encode()).digest()
