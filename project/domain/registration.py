"""Value types of user registration."""

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from project.domain.attempts import NewAttempt
from project.domain.passwords import hash_idempotency_key
from project.domain.usernames import fold_username


class Role(StrEnum):
    """The role of a user, which determines what the user may see and change (docs/adr/0032)."""

    USER = "user"
    AUDITOR = "auditor"
    ADMINISTRATOR = "administrator"

    @property
    def sees_everything(self) -> bool:
        """Whether this role may see and search names, birth dates and clients of all attempts."""
        return self is not Role.USER


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """The data of a user to create, validated and normalized."""

    name: str
    username: str
    phone: str | None
    email: str | None
    birth_date: date | None

    def fingerprint(self) -> bytes:
        """Return the SHA-256 of the normalized fields, which is the same for a repeated request.

        The e-mail address is folded as in former versions, so that retries after an upgrade are recognized.
        """
        content = {
            "birth_date": self.birth_date and str(self.birth_date),
            "email": self.email and fold_username(self.email),
            "name": self.name,
            "phone": self.phone,
            "username": self.username,
        }
        return hashlib.sha256(json.dumps(content).encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A user to create, with the idempotency key and the attempt that records the request."""

    attempt: NewAttempt
    key: str
    """The idempotency key. `attempt.key_hash` is its hash."""
    new_user: NewUser
    is_admin: bool = False

    @classmethod
    def for_line(cls, attempt: NewAttempt, new_user: NewUser, request_key: str) -> "Registration":
        """Return the registration of a line of a bulk request or a row of an import.

        The idempotency key of the line is derived from `request_key` by derive_line_key(). Sets `attempt.key_hash`.
        """
        key = derive_line_key(request_key, new_user.fingerprint())
        attempt.key_hash = hash_idempotency_key(key)
        return cls(attempt=attempt, key=key, new_user=new_user)


def derive_line_key(request_key: str, fingerprint: bytes) -> str:
    """Derive the idempotency key of one user from the key of a bulk request or an import.

    The derived key depends on the user's data and not on the line number: if a request is repeated with lines added,
    removed or moved, only new users are created.
    """
    content = b"\0".join((b"useradd/bulk/v1", request_key.encode(), fingerprint))
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A stored user, without secrets."""

    id: UUID
    name: str
    username: str
    phone: str | None
    email: str | None
    birth_date: date | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Login and password that the client receives. Only a hash of the password is stored."""

    login: str
    password: str
    kid: str
    """ID of the secret from which the password is derived."""
    user: User
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The result of the SQL function useradd_many() for an attempt."""

    code: str
    taken_fields: tuple[str, ...]
    """The fields with identifiers of another user: `username`, `phone`, `email`. Empty if there are none."""
    kid: str | None
    """Like Credentials.kid if the credentials are replayed, otherwise unused."""
    user: User | None = None
    """The existing user if the credentials are replayed, otherwise None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user with the columns that authentication needs."""

    id: UUID
    username: str
    password_hash: str
    epoch: int
    """Number that is incremented to end all sessions of the user: a session is valid if it has the same number."""
    is_active: bool
    role: Role
