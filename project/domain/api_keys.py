"""API keys: with what programs call the service."""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

from project.domain.passwords import ALPHABET, SYMBOLS
from project.domain.text import trimmed_name

PREFIX = "useradd_"
"""Lets people, and the scanners that look for secrets in code, see what they have found."""
MAX_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept, without anything secret."""

    id: UUID
    name: str
    created_at: datetime
    revoked_at: datetime | None
    last_used: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A key that was just made. It exists here and in the answer, nowhere else."""

    name: str
    key: str = field(repr=False)


def new_api_key() -> str:
    """Return a fresh key: 130 bits of chance."""
    return PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(SYMBOLS))


def check_name(name: str) -> str:
    """Return what a key is called, without blanks around it; raise RuleError if it breaks a rule."""
    return trimmed_name(name, MAX_NAME_LENGTH)


def hash_api_key(key: str) -> bytes:
    """Return what is kept of a key. NIST SP 800-63B (5.1.2.2): with 112 bits or more a fast hash is enough."""
    return hashlib.sha256(key.encode()).digest()
