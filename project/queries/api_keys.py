"""Queries of API keys."""

from datetime import date
from uuid import UUID

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from project.domain.api_keys import ApiKey as Key
from project.models import ApiKey

_KEY = (ApiKey.id, ApiKey.name, ApiKey.created_at, ApiKey.revoked_at, ApiKey.last_used)


def add_key(connection: Connection, key_id: UUID, name: str, key_hash: bytes, created_by: UUID | None) -> None:
    """Insert an API key. Idempotent: a retry with the same ID changes nothing."""
    row = {"id": key_id, "name": name, "key_hash": key_hash, "created_by": created_by}
    connection.execute(insert(ApiKey).values(row).on_conflict_do_nothing(index_elements=["id"]))


def revoke_key(connection: Connection, key_id: UUID) -> str | None:
    """Revoke a key; return its name or None. Idempotent: a retry keeps the first timestamp."""
    revoked = update(ApiKey).where(ApiKey.id == key_id).values(revoked_at=func.coalesce(ApiKey.revoked_at, func.now()))
    return connection.execute(revoked.returning(ApiKey.name)).scalar()


def find_key(connection: Connection, key_hash: bytes, today: date) -> UUID | None:
    """Return the ID of the valid key with this hash, or None; record its use today."""
    query = select(ApiKey.id, ApiKey.last_used).where(ApiKey.key_hash == key_hash, ApiKey.revoked_at.is_(None))
    row = connection.execute(query).one_or_none()
    if row is not None and row.last_used != today:
        connection.execute(update(ApiKey).where(ApiKey.id == row.id).values(last_used=today))
    return None if row is None else row.id


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
