"""API keys, which authenticate programs."""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

from project.domain.passwords import ALPHABET, SYMBOL_COUNT, Passwords
from project.domain.text import normalize_name

PREFIX = "useradd_"
"""First characters of every API key, which people and secret scanners recognize."""
MAX_NAME_LENGTH = 100
SHOWN_PREFIX_LENGTH = len(PREFIX) + 3
"""Number of leading characters of a key that are stored and shown. The other characters have 115 bits of
randomness; an unsalted hash needs 112 (NIST SP 800-63B, 5.1.2.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """The stored data of an API key, without the key itself."""

    id: UUID
    name: str
    created_at: datetime
    revoked_at: datetime | None
    """Time at which the key was revoked; None while it is valid."""
    prefix: str | None
    """The first SHOWN_PREFIX_LENGTH characters of the key; None for keys created by former versions."""
    last_used: date | None
    """Day of the last use in UTC; kept for the previous version, which does not know `last_used_at`."""
    last_used_at: datetime | None
    """Time of the last use; None before the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A new API key in full. Only a hash of the key is stored."""

    name: str
    key: str = field(repr=False)


def generate_api_key() -> str:
    """Return a new API key with 130 bits of randomness."""
    return PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(SYMBOL_COUNT))


def derive_api_key(passwords: Passwords, idempotency_key: str) -> str:
    """Derive an API key from an idempotency key, so that a repeated form returns the same key."""
    return PREFIX + passwords.derive_api_key_symbols(idempotency_key)


def normalize_key_name(name: str) -> str:
    """Return the name of an API key, stripped and in NFC. Raises RuleError."""
    return normalize_name(name, MAX_NAME_LENGTH)


def hash_api_key(key: str) -> bytes:
    """Return the SHA-256 of an API key. Random keys need no slow hash (SP 800-63B, 5.1.2.2)."""
    return hashlib.sha256(key.encode()).digest()
