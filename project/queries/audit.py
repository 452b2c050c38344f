"""Queries of the audit log."""

import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, delete, or_, select, text
from sqlalchemy.dialects.postgresql import distinct_on

from project.domain.audit import Action, ActorKind, Entry, NewEntry
from project.models import AuditEntry
from project.queries.maintenance import Deleted, check_clocks

_ENTRY = tuple(getattr(AuditEntry, field.name) for field in fields(Entry))
_ADD = text("""
    insert into audit_log (id, at, actor_kind, actor_id, actor, action, target_id, target, details)
    values (:id, clock_timestamp() - make_interval(secs => :age_s), :actor_kind, :actor_id,
            case :actor_kind when 'user' then (select username from users where id = :actor_id)
                             when 'api_key' then (select name from api_keys where id = :actor_id) end,
            :action, :target_id, :target, cast(:details as jsonb))
    on conflict (id) do nothing
""")


def add_entry(connection: Connection, entry: NewEntry, age_s: float = 0) -> None:
    """Insert an entry dated `age_s` seconds ago, unless its ID is already stored."""
    values: dict[str, Any] = {field.name: getattr(entry, field.name) for field in fields(NewEntry)}
    details = json.dumps(dict(entry.details), ensure_ascii=False)
    connection.execute(_ADD, values | {"details": details, "age_s": age_s})


def has_entry(connection: Connection, entry: NewEntry) -> bool:
    """Return whether an entry with this ID is stored."""
    return connection.execute(select(AuditEntry.id).where(AuditEntry.id == entry.id)).first() is not None


def find_entries(
    connection: Connection, limit: int, before: UUID | None = None, about: UUID | None = None
) -> list[Entry]:
    """Return at most `limit` entries older than `before`, newest first.

    `about` is the ID of a user or key that acted or was changed; None means all.
    """
    query = select(*_ENTRY).order_by(AuditEntry.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    if about is not None:
        query = query.where(or_(AuditEntry.actor_id == about, AuditEntry.target_id == about))
    return [_entry(row._mapping) for row in connection.execute(query)]


def find_last_blocks(connection: Connection, user_ids: Sequence[UUID]) -> dict[UUID, Entry]:
    """Return the last audit entry `user_blocked` about each of the users, by user ID."""
    blocks = (
        select(*_ENTRY)
        .where(AuditEntry.target_id.in_(user_ids), AuditEntry.action == Action.USER_BLOCKED)
        .order_by(AuditEntry.target_id, AuditEntry.id.desc())
        .ext(distinct_on(AuditEntry.target_id))
    )
    found = [_entry(row._mapping) for row in connection.execute(blocks)]
    return {entry.target_id: entry for entry in found if entry.target_id}


def prune_entries(connection: Connection, max_age: timedelta, limit: int) -> Deleted:
    """Delete at most `limit` entries older than `max_age`. Raises ClocksDifferError."""
    before = check_clocks(connection) - max_age
    old = select(AuditEntry.id).where(AuditEntry.at < before).order_by(AuditEntry.at).limit(limit)
    deleted = connection.execute(delete(AuditEntry).where(AuditEntry.id.in_(old)))
    return Deleted(deleted.rowcount, before)


def _entry(row: RowMapping) -> Entry:
    values = {column.key: row[column.key] for column in _ENTRY}
    return Entry(**values | {"action": Action(row["action"]), "actor_kind": ActorKind(row["actor_kind"])})
