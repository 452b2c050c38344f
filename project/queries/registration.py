"""Statements that write attempts: one creates users, the other records refusals."""

from collections.abc import Sequence
from dataclasses import fields

from psycopg2 import Binary
from sqlalchemy import Connection

from project.database import Database, PreparedStatement
from project.domain.attempts import REPLAYED, NewAttempt
from project.domain.emails import fold_email
from project.domain.masking import mask_email, mask_number
from project.domain.records import AttemptRecord, to_json
from project.domain.registration import Decision, NewUser, User
from project.domain.usernames import fold

_USERADD = PreparedStatement(
    "useradd",
    "select status, code, clashes, kid, user_id, name, username, phone, email, birth_date, created_at from useradd({})",
    arguments=23,
)
_USER = tuple(field.name for field in fields(User))
_INSERT = PreparedStatement(
    "insert_attempts",
    """
    insert into attempts (
        id, received_at, status, answered, code, via, method, duration_ms, username, phone_masked, email_masked,
        errors, sent, language, client_address, user_agent, client_request_id, key_hash,
        username_shown, name_shown
    )
    select id, received_at, status, answered, code, via, method, duration_ms, sent ->> 'username', sent ->> 'phone',
           sent ->> 'email', errors, sent, language, client_address, user_agent, client_request_id,
           decode(key_hash, 'hex'), shown_login(sent ->> 'username'), shown_name(sent ->> 'name', errors::text)
      from jsonb_to_recordset({}) as record (
        id uuid, received_at timestamptz, status integer, answered integer, code text, via text, method text,
        duration_ms integer, errors jsonb, sent jsonb, language text, client_address text, user_agent text,
        client_request_id text, key_hash text
    )
    on conflict (id) do update set answered = excluded.answered
    returning id
    """,
    arguments=1,
)
"""The conflict clause writes `answered` even if it is unchanged (docs/adr/0013)."""


def useradd(
    database: Database,
    attempt: NewAttempt,
    new_user: NewUser,
    *,
    duration_ms: int,
    kid: str,
    password_hash: str,
    is_admin: bool = False,
) -> Decision:
    """Call the SQL function useradd(): it creates the user, refuses it or replays the key."""
    [(status, code, clashes, decided_kid, *user)] = database.write_statement(
        _USERADD,
        str(attempt.id),
        attempt.received_at,
        duration_ms,
        attempt.method,
        new_user.phone and mask_number(new_user.phone),
        new_user.email and mask_email(new_user.email),
        to_json(attempt.sent),
        attempt.language,
        attempt.client_address,
        attempt.user_agent,
        attempt.client_request_id,
        attempt.key_hash and Binary(attempt.key_hash),
        Binary(new_user.fingerprint()),
        kid,
        new_user.name,
        new_user.username,
        fold(new_user.username),
        new_user.phone,
        new_user.email,
        new_user.email and fold_email(new_user.email),
        new_user.birth_date,
        password_hash,
        is_admin,
    )
    return Decision(
        status=status,
        code=code,
        clashes=tuple(clashes or ()),
        kid=decided_kid,
        user=User(**dict(zip(_USER, user, strict=True))) if code == REPLAYED else None,
    )


def insert_attempt(database: Database, record: AttemptRecord) -> None:
    """Record one attempt that created no user, by the same rules as insert_attempts()."""
    database.write_statement(_INSERT, f"[{record.to_line()}]")


def insert_attempts(connection: Connection, records: Sequence[AttemptRecord]) -> None:
    """Record attempts that created no user.

    If an attempt is already recorded, only `answered` is updated. If the transaction of an attempt is still open,
    PostgreSQL waits for it, so that the record does not get ahead of its outcome.
    """
    first_of_id = {record.attempt.id: record for record in reversed(records)}
    lines = ",".join(record.to_line() for record in first_of_id.values())
    connection.exec_driver_sql(_INSERT.plain, (f"[{lines}]",))
