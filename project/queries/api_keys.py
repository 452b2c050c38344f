"""Queries of API keys."""

from dataclasses import fields, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from project.domain.api_keys import ApiKey as Key
from project.domain.audit import NewEntry
from project.models import ApiKey
from project.queries.audit import add_entry

_KEY = tuple(getattr(ApiKey, field.name) for field in fields(Key))


def add_key(connection: Connection, row: dict[str, Any], entry: NewEntry) -> bool:
    """Insert an API key; return False if it exists. Idempotent: a retry changes nothing."""
    added = insert(ApiKey).values(row).on_conflict_do_nothing().returning(ApiKey.id)
    is_new = connection.execute(added).scalar_one_or_none() is not None
    if is_new:
        add_entry(connection, entry)
    return is_new


def revoke_key(connection: Connection, key_id: UUID, entry: NewEntry) -> str | None:
    """Revoke a key; return its name or None. Idempotent: a retry keeps the first timestamp."""
    revoked = update(ApiKey).where(ApiKey.id == key_id).values(revoked_at=func.coalesce(ApiKey.revoked_at, func.now()))
    name = connection.execute(revoked.returning(ApiKey.name)).scalar()
    if name is not None:
        add_entry(connection, replace(entry, target=name))
    return name


def find_key(connection: Connection, key_hash: bytes) -> UUID | None:
    """Return the ID of the valid key with this hash, or None."""
    query = select(ApiKey.id).where(ApiKey.key_hash == key_hash, ApiKey.revoked_at.is_(None))
    return connection.execute(query).scalar_one_or_none()


def find_key_by_id(connection: Connection, key_id: UUID) -> Key | None:
    """Return the key with this ID, or None."""
    row = connection.execute(select(*_KEY).where(ApiKey.id == key_id)).one_or_none()
    return None if row is None else Key(**row._mapping)


def find_keys(connection: Connection, limit: int | None = None, before: UUID | None = None) -> list[Key]:
    """Return at most `limit` keys older than `before`, newest first; all keys by default."""
    query = select(*_KEY).order_by(ApiKey.id.desc()).limit(limit)
    if before is not None:
        query = query.where(ApiKey.id < before)
    return [Key(**row._mapping) for row in connection.execute(query)]
