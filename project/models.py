"""SQLAlchemy models of the tables, with their constraints."""

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
    """The declarative base, with a naming convention for constraints. Independent of Flask."""

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
    """An attempt to create a user, whatever its outcome.

    That is a request to /useradd, a line of a bulk request, a row of an import, or a command.
    """

    __tablename__ = "attempts"
    __table_args__ = (
        UniqueConstraint("id", "status"),
        UniqueConstraint("seq"),
        CheckConstraint("status = 0 or status between 100 and 599", name="status"),
        CheckConstraint("via in ('direct', 'spool', 'recovered')", name="via"),
        Index(None, "username", "id"),
        Index(
            "attempts_folded_login_id_idx",
            text("fold_login(username)"),
            "id",
            postgresql_where=text("""username collate "C" ~ '[^a-z0-9@.+_-]'"""),
        ),
        Index(None, "status", "code", "id"),
        Index(None, "client_request_id", postgresql_where=text("client_request_id is not null")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """UUIDv7 with the time of arrival, so that IDs sort by time."""
    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    """Sequence number, used for the upper bound of snapshots and the watermark of aggregates."""
    received_at: Mapped[datetime]
    recorded_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    status: Mapped[int]
    """The outcome as an HTTP status; 0 if the process died before it responded."""
    answered: Mapped[int | None]
    """HTTP status of the response; null if there was none. Differs from `status` after an unconfirmed COMMIT."""
    code: Mapped[str]
    via: Mapped[str] = mapped_column(server_default=text("'direct'"))
    """Origin of the row: the request, the spool, or an intent whose process was killed."""
    method: Mapped[str]
    duration_ms: Mapped[int]
    username: Mapped[str | None]
    phone_masked: Mapped[str | None]
    email_masked: Mapped[str | None]
    """`username`, `phone_masked` and `email_masked` are null if the client did not send them."""
    errors: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    sent: Mapped[dict[str, str]] = mapped_column(JSONB, server_default=text("'{}'"))
    """The fields of the request body. Contacts are masked, and values of unknown fields are hidden."""
    username_shown: Mapped[str | None]
    name_shown: Mapped[str | None]
    """`username_shown` and `name_shown`: login and name as ordinary users see them; null if SQL cannot mask them."""
    language: Mapped[str]
    client_address: Mapped[str]
    user_agent: Mapped[str]
    client_request_id: Mapped[str | None]
    """The request ID that the client sent, masked; null if it sent none."""
    key_hash: Mapped[bytes | None]
    """SHA-256 of the idempotency key; null if the request was refused before its key was read."""


class User(Base):
    """A user, with the same ID as the attempt that created the user.

    A foreign key requires that the attempt has status 201. When retention deletes the attempt, `attempt_status` becomes
    null, which disables the foreign key.
    """

    __tablename__ = "users"
    __table_args__ = (
        ForeignKeyConstraint(["id", "attempt_status"], ["attempts.id", "attempts.status"]),
        CheckConstraint("attempt_status = 201", name="attempt_status"),
        CheckConstraint("phone is not null or email is not null", name="contact"),
        CheckConstraint("role in ('user', 'auditor', 'administrator')", name="role"),
        Index("users_admins_idx", "id", postgresql_where=text("is_admin")),
        Index("users_roles_idx", "role", "id", postgresql_where=text("role <> 'user'")),
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
    """Time of the last change; null while the generated password is valid. After that, replays return no password."""
    epoch: Mapped[int] = mapped_column(server_default=text("0"))
    """Incremented to end all sessions of the user: sessions of an older epoch are invalid."""
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    is_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether `role` is administrator, for the previous version. A trigger keeps the two consistent (ADR 32)."""
    role: Mapped[str] = mapped_column(server_default=text("'user'"))
    created_at: Mapped[datetime]
    last_login_at: Mapped[datetime | None]
    """Time of the last login; null before the first one."""


class Identifier(Base):
    """A username, phone or e-mail of a user. The primary key makes it unique.

    There is no foreign key, because identifiers are inserted before the user (ADR 3).
    """

    __tablename__ = "identifiers"
    __table_args__ = (CheckConstraint("kind in ('username', 'phone', 'email')", name="kind"),)

    value: Mapped[str] = mapped_column(primary_key=True)
    """The folded username or e-mail address, or the phone number in E.164 form (ADR 3)."""
    kind: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]


class IdempotencyKey(Base):
    """An idempotency key and the user created with it, so that a retry gets the same response."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "expires_at"),)

    key_hash: Mapped[bytes] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    user_id: Mapped[UUID]
    kid: Mapped[str]
    """ID of the secret from which the password was derived."""
    expires_at: Mapped[datetime]


class ApiKey(Base):
    """An API key, stored as a hash."""

    __tablename__ = "api_keys"
    __table_args__ = (UniqueConstraint("key_hash"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    key_hash: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    created_by: Mapped[UUID | None]
    """The administrator who created the key; null if it was created on the command line."""
    revoked_at: Mapped[datetime | None]
    """Time at which the key was revoked; null while it is valid."""
    last_used: Mapped[date | None]
    """Date of the last use in UTC, which the previous version of the service reads; null before the first use."""
    prefix: Mapped[str | None]
    """First characters of the key, so that people recognize it; null for keys created by former versions."""
    last_used_at: Mapped[datetime | None]
    """Time of the last use; null before the first one."""


class AuditEntry(Base):
    """An action of an administrator, a download or an import."""

    __tablename__ = "audit_log"
    __table_args__ = (
        CheckConstraint("actor_kind in ('user', 'api_key', 'command')", name="actor_kind"),
        Index(None, "at"),
        Index(None, "actor_id", "id"),
        Index(None, "target_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """UUIDv7, so that entries sort by time."""
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    actor_kind: Mapped[str]
    actor_id: Mapped[UUID | None]
    """ID of the user or API key; null for the command line."""
    actor: Mapped[str | None]
    """Login of the user or name of the key at the time of the action; null for the command line."""
    action: Mapped[str]
    target_id: Mapped[UUID | None]
    target: Mapped[str | None]
    """ID and name of what was changed; null if the action, such as a download, changes nothing."""
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))


class Import(Base):
    """A file with users that an administrator has uploaded (ADR 34). Deleted after 24 hours."""

    __tablename__ = "imports"
    __table_args__ = (CheckConstraint("state in ('uploaded', 'checked', 'running', 'done', 'failed')", name="state"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    created_by: Mapped[UUID]
    file_name: Mapped[str]
    content: Mapped[bytes | None]
    """Content of the file; null after it has been checked."""
    ignore_unknown: Mapped[bool]
    state: Mapped[str] = mapped_column(server_default=text("'uploaded'"))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    """Code and parameters of the FileError if the file cannot be read, otherwise null."""
    headers: Mapped[list[str]] = mapped_column("heads", ARRAY(Text), key="headers", server_default=text("'{}'"))
    fields: Mapped[list[str | None]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    notes: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    kid: Mapped[str | None]
    """ID of the secret from which the idempotency keys of the rows are derived; null before users are created."""
    claimed_until: Mapped[datetime | None]
    """Time until which one process has reserved the import, or null. After that, another process may continue it."""
    finished_at: Mapped[datetime | None]
    """Time at which all rows had an outcome; null before."""
    credentials_at: Mapped[datetime | None]
    """Time at which the credentials were downloaded, which is possible only once; null before."""


class ImportRow(Base):
    """A row of an import. Cells and body are deleted as soon as the user exists."""

    __tablename__ = "import_rows"
    __table_args__ = (
        ForeignKeyConstraint(["import_id"], ["imports.id"], ondelete="CASCADE"),
        CheckConstraint("outcome in ('created', 'existing', 'refused')", name="outcome"),
    )

    import_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cells: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    body: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    fingerprint: Mapped[bytes | None]
    """Determines the idempotency key of the row; null if the row was refused or repeats another one."""
    outcome: Mapped[str | None]
    """Null until the row is refused, recognized as a repetition, or its user exists."""
    refusal: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    """The refusal of a refused row, otherwise null."""
    user_id: Mapped[UUID | None]
    kid: Mapped[str | None]
    """ID of the secret from which the password of the user is derived; null, like `user_id`, without a user."""


class AttemptCount(Base):
    """An aggregate: number of attempts per period, status and code, up to the watermark."""

    __tablename__ = "attempt_counts"
    __table_args__ = (CheckConstraint("grain in ('month', 'day', 'hour', '15min')", name="grain"),)

    grain: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    status: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    code: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    durations: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    """Number of attempts per bucket of `DURATION_BUCKETS_MS`, without trailing zeros."""


class Watermark(Base):
    """The sequence number up to which attempts are processed: aggregated, or masked again.

    `name` is `attempt_counts` or `masks`, see project/queries/aggregates.py and masks.py.
    """

    __tablename__ = "watermarks"

    name: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)
