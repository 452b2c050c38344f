"""Statements that keep the tables in order, or only tell that PostgreSQL answers."""

from sqlalchemy import Connection, delete, func, select

from project.models import IdempotencyKey


def delete_expired_keys(connection: Connection, limit: int) -> int:
    """Forget at most `limit` idempotency keys whose time is over, passing by those in use; return how many."""
    expired = (
        select(IdempotencyKey.key_hash)
        .where(IdempotencyKey.expires_at <= func.now())
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return connection.execute(delete(IdempotencyKey).where(IdempotencyKey.key_hash.in_(expired))).rowcount


def find_nothing(connection: Connection) -> None:
    """Ask for nothing: that there is an answer is the news."""
    connection.execute(select(1))
