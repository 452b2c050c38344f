"""Statements that write attempts: one creates users, the other records all other attempts."""

from collections.abc import Sequence
from dataclasses import fields

from sqlalchemy import Connection

from project.database import Database, Member, PreparedStatement, Row
from project.domain.attempts import REPLAYED, NewAttempt
from project.domain.emails import fold_email
from project.domain.masking import mask_email, mask_valid_phone
from project.domain.records import AttemptRecord, to_json
from project.domain.registration import Decision, NewUser, User
from project.domain.usernames import fold_username

_USERADD = PreparedStatement(
    "useradd_many",
    "select code, clashes, kid, user_id, name, username, phone, email, birth_date, created_at from useradd_many({})",
    arguments=1,
)
_USER_FIELDS = tuple(field.name for field in fields(User))
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
     order by id
    on conflict (id) do update
       set answered = excluded.answered,
           duration_ms = case when excluded.answered is null then attempts.duration_ms else excluded.duration_ms end
    returning id
    """,
    arguments=1,
)
"""Records attempts of a JSON array. Writes `answered` even if unchanged (docs/adr/0013). The order is the same as in
useradd_many(), so that concurrent statements do not deadlock."""


def useradd(database: Database, member: Member) -> Decision:
    """Call the SQL function useradd_many() for one member; return its decision.

    The function creates the user, refuses to, or returns the user of an earlier request with the same key.
    """
    return _decision(database.write_member(_USERADD, member))


def useradd_group(database: Database, members: Sequence[Member]) -> list[Decision | Exception]:
    """Call useradd_many() for members in one transaction; return a decision or error for each.

    No two members may have a common claim (a unique value, such as a username; see Member). If the transaction fails,
    each member is tried alone.
    """
    found = database.write_group(_USERADD, members)
    return [one if isinstance(one, Exception) else _decision(one) for one in found]


def useradd_member(
    attempt: NewAttempt, new_user: NewUser, *, duration_ms: int, kid: str, password_hash: str, is_admin: bool
) -> Member:
    """Return a member of a group commit that creates a user.

    The member consists of the arguments of useradd_many() and of its claims, the values that must be unique.
    """
    attempt_id, folded = str(attempt.id), fold_username(new_user.username)
    email_folded = new_user.email and fold_email(new_user.email)
    key_hash = None if attempt.key_hash is None else attempt.key_hash.hex()
    arguments = {
        "id": attempt_id,
        "received_at": attempt.received_at.isoformat(),
        "duration_ms": duration_ms,
        "method": attempt.method,
        "phone_masked": new_user.phone and mask_valid_phone(new_user.phone),
        "email_masked": new_user.email and mask_email(new_user.email),
        "sent": dict(attempt.sent),
        "language": attempt.language,
        "client_address": attempt.client_address,
        "user_agent": attempt.user_agent,
        "client_request_id": attempt.client_request_id,
        "key_hash": key_hash,
        "fingerprint": new_user.fingerprint().hex(),
        "kid": kid,
        "name": new_user.name,
        "username": new_user.username,
        "username_folded": folded,
        "phone": new_user.phone,
        "email": new_user.email,
        "email_folded": email_folded,
        "birth_date": new_user.birth_date and str(new_user.birth_date),
        "password_hash": password_hash,
        "is_admin": is_admin,
    }
    # As tuples, because a username may equal somebody's e-mail address.
    claims = {
        ("id", attempt_id),
        ("key", key_hash),
        ("username", folded),
        ("phone", new_user.phone),
        ("email", email_folded),
    }
    return Member(to_json(arguments), frozenset([claim for claim in claims if claim[1] is not None]))


def _decision(row: Row) -> Decision:
    code, clashes, kid, *user = row
    return Decision(
        code=code,
        taken_fields=tuple(clashes or ()),
        kid=kid,
        user=User(**dict(zip(_USER_FIELDS, user, strict=True))) if code == REPLAYED else None,
    )


def insert_attempt(database: Database, record: AttemptRecord) -> None:
    """Record an attempt that created no user; concurrent calls share a transaction if possible.

    If the attempt is already recorded, it is updated as by insert_attempts().
    """
    database.write_member(_INSERT, _record_member(record))


def insert_group(database: Database, records: Sequence[AttemptRecord]) -> list[Exception | None]:
    """Record attempts with distinct IDs in one transaction; return an error or None for each.

    If the transaction fails, each attempt is tried alone.
    """
    if not records:
        return []
    found = database.write_group(_INSERT, [_record_member(record) for record in records])
    return [one if isinstance(one, Exception) else None for one in found]


def _record_member(record: AttemptRecord) -> Member:
    return Member(record.to_line(), frozenset({("id", str(record.attempt.id))}))


def insert_attempts(connection: Connection, records: Sequence[AttemptRecord]) -> None:
    """Record attempts that created no user.

    If an attempt is already recorded, only `answered` is updated, and the duration if there was a response. If another
    transaction that writes the same attempt is open, PostgreSQL waits for it.
    """
    record_by_id = {record.attempt.id: record for record in reversed(records)}  # keeps the first of each ID
    lines = ",".join(record.to_line() for record in record_by_id.values())
    connection.exec_driver_sql(_INSERT.plain, (f"[{lines}]",))
