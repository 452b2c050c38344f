"""Queries of API keys."""

from dataclasses import fields, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from project import models
from project.domain.api_keys import ApiKey
from project.domain.audit import NewEntry
from project.queries.audit import add_entry

_KEY = tuple(getattr(models.ApiKey, field.name) for field in fields(ApiKey))


def add_key(connection: Connection, row: dict[str, Any], entry: NewEntry) -> bool:
    """Insert an API key and its audit entry; return False and do nothing if the key exists."""
    added = insert(models.ApiKey).values(row).on_conflict_do_nothing().returning(models.ApiKey.id)
    is_new = connection.execute(added).scalar_one_or_none() is not None
    if is_new:
        add_entry(connection, entry)
    return is_new


def revoke_key(connection: Connection, key_id: UUID, entry: NewEntry) -> str | None:
    """Revoke a key and insert the audit entry; return the name of the key, or None if unknown.

    Idempotent: keeps the time of the first revocation.
    """
    revoked_at = func.coalesce(models.ApiKey.revoked_at, func.now())
    revoked = update(models.ApiKey).where(models.ApiKey.id == key_id).values(revoked_at=revoked_at)
    name = connection.execute(revoked.returning(models.ApiKey.name)).scalar()
    if name is not None:
        add_entry(connection, replace(entry, target=name))
    return name


def find_valid_key_id(connection: Connection, key_hash: bytes) -> UUID | None:
    """Return the ID of the valid key with this hash, or None."""
    query = select(models.ApiKey.id).where(models.ApiKey.key_hash == key_hash, models.ApiKey.revoked_at.is_(None))
    return connection.execute(query).scalar_one_or_none()


def find_key_by_id(connection: Connection, key_id: UUID) -> ApiKey | None:
    """Return the key with this ID, or None."""
    row = connection.execute(select(*_KEY).where(models.ApiKey.id == key_id)).one_or_none()
    return None if row is None else ApiKey(**row._mapping)


def find_keys(connection: Connection, limit: int | None, before: UUID | None) -> list[ApiKey]:
    """Return at most `limit` keys older than `before`, newest first; None means without limit."""
    query = select(*_KEY).order_by(models.ApiKey.id.desc()).limit(limit)
    if before is not None:
        query = query.where(models.ApiKey.id < before)
    return [ApiKey(**row._mapping) for row in connection.execute(query)]
