"""Statements that keep the tables in order, or only tell that PostgreSQL answers."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, select, text

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


@dataclass(frozen=True, slots=True)
class Server:
    """What a PostgreSQL tells of itself and of our place in it."""

    version: str
    number: int
    """140005 is 14.5."""
    role: str
    takes_writes: bool
    now: datetime
    may_create: bool
    """Whether our role may make tables, as migrations do."""
    may_alter: bool
    """Whether it owns any of the tables that are there."""
    may_write: bool
    """Whether it may read and write the rows of all of them."""
    revision: str | None
    """Of the last migration, None before the first."""


def find_server(connection: Connection) -> Server:
    """Return what an operator wants to know of PostgreSQL."""
    told = connection.execute(
        text(
            """
            select current_setting('server_version') as version,
                   current_setting('server_version_num')::integer as number,
                   current_user::text as role,
                   current_setting('transaction_read_only') = 'off' and not pg_is_in_recovery() as takes_writes,
                   clock_timestamp() as now,
                   coalesce(has_schema_privilege(current_schema(), 'create'), false) as may_create,
                   coalesce(bool_or(pg_has_role(c.relowner, 'usage')), false) as may_alter,
                   coalesce(bool_and(has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert')
                                     and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete')),
                            true) as may_write
              from (select) nothing left join pg_class c
                on c.relnamespace = to_regnamespace(current_schema()) and c.relkind in ('r', 'p')
            """
        )
    ).mappings()
    is_readable = text("select has_table_privilege(to_regclass('alembic_version'), 'select')")
    is_migrated = connection.execute(is_readable).scalar()
    found = connection.execute(text("select version_num from alembic_version")).scalar() if is_migrated else None
    return Server(**told.one(), revision=found)
