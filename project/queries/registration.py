"""The two statements that write attempts: one decides, the other records what was refused."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB, insert

from project.domain.attempts import NewAttempt
from project.domain.contacts import mask_email, mask_phone
from project.domain.records import AttemptRecord
from project.domain.registration import Decision, NewUser, User
from project.domain.usernames import fold
from project.models import Attempt

_USERADD = text("""
    select (decision).* from (select useradd(
        :id, :received_at, :duration_ms, :method, :phone_masked, :email_masked, :sent, :language,
        :client_address, :user_agent, :client_request_id, :key_hash, :fingerprint, :kid,
        :name, :username, :username_folded, :phone, :email, :birth_date, :password_hash, :is_admin
    ) as decision offset 0) once
""").bindparams(bindparam("sent", type_=JSONB))
"""`offset 0` keeps PostgreSQL from calling the function once for each column of its answer."""


def useradd(
    connection: Connection,
    attempt: NewAttempt,
    new_user: NewUser,
    *,
    duration_ms: int,
    kid: str,
    password_hash: str,
    is_admin: bool = False,
) -> Decision:
    """Let PostgreSQL decide the attempt: user created, identifiers taken, or key replayed."""
    row = connection.execute(
        _USERADD,
        {
            "id": attempt.id,
            "received_at": attempt.received_at,
            "duration_ms": duration_ms,
            "method": attempt.method,
            "phone_masked": new_user.phone and mask_phone(new_user.phone),
            "email_masked": new_user.email and mask_email(new_user.email),
            "sent": attempt.sent,
            "language": attempt.language,
            "client_address": attempt.client_address,
            "user_agent": attempt.user_agent,
            "client_request_id": attempt.client_request_id,
            "key_hash": attempt.key_hash,
            "fingerprint": new_user.fingerprint(),
            "kid": kid,
            "name": new_user.name,
            "username": new_user.username,
            "username_folded": fold(new_user.username),
            "phone": new_user.phone,
            "email": new_user.email,
            "birth_date": new_user.birth_date,
            "password_hash": password_hash,
            "is_admin": is_admin,
        },
    ).one()
    user = None
    if row.user_id is not None:
        user = User(
            id=row.user_id,
            name=row.name,
            username=row.username,
            phone=row.phone,
            email=row.email,
            birth_date=row.birth_date,
            created_at=row.created_at,
        )
    return Decision(status=row.status, code=row.code, clashes=tuple(row.clashes or ()), kid=row.kid, user=user)


def insert_attempts(connection: Connection, records: Sequence[AttemptRecord]) -> None:
    """Record attempts that ended without a user.

    Of one that is recorded already only `answered` follows: what happened stays, what the client was told changes.
    If its own transaction is still undecided, PostgreSQL waits here for it: a record can never overtake it.
    """
    first_of_id = {record.attempt.id: record for record in reversed(records)}
    statement = insert(Attempt).values([_values(record) for record in first_of_id.values()])
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["id"],
            set_={"answered": statement.excluded.answered},  # even if it is the same: see migration 0004
        )
    )


def _values(record: AttemptRecord) -> dict[str, object]:
    attempt = record.attempt
    return {
        "id": attempt.id,
        "received_at": attempt.received_at,
        "status": record.status,
        "answered": record.answered,
        "code": record.code,
        "via": record.via,
        "method": attempt.method,
        "duration_ms": record.duration_ms,
        "username": attempt.sent.get("username"),
        "phone_masked": attempt.sent.get("phone"),
        "email_masked": attempt.sent.get("email"),
        "errors": [error.as_json() for error in record.errors],
        "sent": dict(attempt.sent),
        "language": attempt.language,
        "client_address": attempt.client_address,
        "user_agent": attempt.user_agent,
        "client_request_id": attempt.client_request_id,
        "key_hash": attempt.key_hash,
    }
