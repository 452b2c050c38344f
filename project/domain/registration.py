"""Creating a user: what goes in and what comes out."""

import hashlib
import json
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """What the client asks for, every field checked and in its normal form."""

    name: str
    username: str
    phone: str | None
    email: str | None
    birth_date: date | None

    def fingerprint(self) -> bytes:
        """Return SHA-256 of the content: the same for bodies that mean the same, whatever their spaces and order."""
        content = {
            "birth_date": self.birth_date and str(self.birth_date),
            "email": self.email,
            "name": self.name,
            "phone": self.phone,
            "username": self.username,
        }
        return hashlib.sha256(json.dumps(content).encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user as PostgreSQL keeps it, without anything secret."""

    id: UUID
    name: str
    username: str
    phone: str | None
    email: str | None
    birth_date: date | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What the client is given back. The password exists here and in the answer, nowhere else."""

    login: str
    password: str
    user: User
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What PostgreSQL decided about one attempt, in one transaction."""

    status: int
    code: str
    clashes: tuple[str, ...]
    kid: str | None
    user: User | None = None
    """The one that an earlier attempt with this key has created, None if this is the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user as login needs it."""

    id: UUID
    username: str
    password_hash: str
    epoch: int
    is_active: bool
    is_admin: bool
