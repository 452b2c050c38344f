"""The tables, as PostgreSQL guarantees them. Rules that hold by constraint need no code that keeps them."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Typed base without Flask; constraint names follow one rule, so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        }
    )
    type_annotation_map = {str: Text(), datetime: DateTime(timezone=True), bytes: LargeBinary()}


class Attempt(Base):
    """One call of /useradd, whatever its end."""

    __tablename__ = "attempts"
    __table_args__ = (
        UniqueConstraint("id", "status"),
        UniqueConstraint("seq"),
        CheckConstraint("status = 0 or status between 100 and 599", name="status"),
        CheckConstraint("via in ('direct', 'spool', 'recovered')", name="via"),
        Index(None, "username", "id"),
        Index(None, "status", "code", "id"),
        Index(None, "client_request_id", postgresql_where=text("client_request_id is not null")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """UUIDv7 made when the request came in: the order of ids is the order of time."""
    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    """Order of arrival in this table: the upper bound of an export, the watermark of a roll-up."""
    received_at: Mapped[datetime]
    recorded_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    status: Mapped[int]
    """What happened, as an HTTP status; 0 when the process died before it could answer."""
    answered: Mapped[int | None]
    """What the client was told: differs from `status` only after an unconfirmed COMMIT or on a replay."""
    code: Mapped[str]
    via: Mapped[str] = mapped_column(server_default=text("'direct'"))
    method: Mapped[str]
    duration_ms: Mapped[int]
    username: Mapped[str | None]
    phone_masked: Mapped[str | None]
    email_masked: Mapped[str | None]
    errors: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    sent: Mapped[dict[str, str]] = mapped_column(JSONB, server_default=text("'{}'"))
    """The body's fields, contacts masked, unknown values left out."""
    language: Mapped[str]
    client_address: Mapped[str]
    user_agent: Mapped[str]
    client_request_id: Mapped[str | None]
    key_hash: Mapped[bytes | None]


class User(Base):
    """A user is a created attempt: the same id, and the foreign key says that the attempt ended with 201.

    Retention takes the attempt away in the end; then `attempt_status` is null, and the foreign key asks for nothing.
    """

    __tablename__ = "users"
    __table_args__ = (
        ForeignKeyConstraint(["id", "attempt_status"], ["attempts.id", "attempts.status"]),
        CheckConstraint("attempt_status = 201", name="attempt_status"),
        CheckConstraint("phone is not null or email is not null", name="contact"),
        Index("users_admins_idx", "id", postgresql_where=text("is_admin")),
        Index("users_blocked_idx", "id", postgresql_where=text("not is_active")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    attempt_status: Mapped[int | None] = mapped_column(server_default=text("201"))
    name: Mapped[str]
    username: Mapped[str]
    phone: Mapped[str | None]
    email: Mapped[str | None]
    birth_date: Mapped[date | None]
    password_hash: Mapped[str]
    password_changed_at: Mapped[datetime | None]
    """Null as long as the issued password holds: only then may a replay answer with it."""
    epoch: Mapped[int] = mapped_column(server_default=text("0"))
    """Counts up whenever all sessions of the user must end: a session of an older epoch is void."""
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    is_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime]


class Identifier(Base):
    """By what a user is known: this primary key alone makes usernames, phones and e-mails unique.

    No foreign key: identifiers are claimed before the user exists, and the table shards by `value` (ADR 3).
    """

    __tablename__ = "identifiers"
    __table_args__ = (CheckConstraint("kind in ('username', 'phone', 'email')", name="kind"),)

    value: Mapped[str] = mapped_column(primary_key=True)
    """Folded: case, NFKC, E.164."""
    kind: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]


class IdempotencyKey(Base):
    """Remembers which key created which user, so that a retry gets the same answer and no second user."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "expires_at"),)

    key_hash: Mapped[bytes] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    user_id: Mapped[UUID]
    kid: Mapped[str]
    """Name of the secret that made the password."""
    expires_at: Mapped[datetime]


class ApiKey(Base):
    """With what a program calls the service; of the key itself only the hash is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (UniqueConstraint("key_hash"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    key_hash: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    created_by: Mapped[UUID | None]
    """The administrator who made it, null when that happened on the machine itself."""
    revoked_at: Mapped[datetime | None]
    last_used: Mapped[date | None]
    """The day (UTC) it was last seen, so that one can tell whether it is still needed."""


class AttemptCount(Base):
    """How many attempts of a stretch of time ended in one way: as far as they are counted, which a watermark tells."""

    __tablename__ = "attempt_counts"
    __table_args__ = (CheckConstraint("grain in ('month', 'day', 'hour', '15min')", name="grain"),)

    grain: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    status: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    code: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    durations: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    """How many of them are within each of `LIMITS_MS` and not within the one before, without zeros at the end."""


class Watermark(Base):
    """Up to which attempt something is done."""

    __tablename__ = "watermarks"

    name: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)
