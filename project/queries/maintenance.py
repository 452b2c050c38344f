"""Maintenance of the tables, and checks of the server."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, select, text

from project.models import IdempotencyKey


def delete_expired_keys(connection: Connection, limit: int) -> int:
    """Delete up to `limit` expired idempotency keys, except locked ones; return their number."""
    expired = (
        select(IdempotencyKey.key_hash)
        .where(IdempotencyKey.expires_at <= func.now())
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return connection.execute(delete(IdempotencyKey).where(IdempotencyKey.key_hash.in_(expired))).rowcount


def ping(connection: Connection) -> None:
    """Execute a trivial query to check that PostgreSQL responds."""
    connection.execute(select(1))


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL server and the privileges of the role of this connection."""

    version: str
    number: int
    """140005 is 14.5."""
    role: str
    is_writable: bool
    now: datetime
    may_create: bool
    """Whether the role may create tables, as migrations do."""
    may_alter: bool
    """Whether it owns any of our tables."""
    may_write: bool
    """Whether it may read and write the rows of all tables."""
    revision: str | None
    """The last migration, None before the first."""


def find_server(connection: Connection) -> Server:
    row = connection.execute(
        text(
            """
            select current_setting('server_version') as version,
                   current_setting('server_version_num')::integer as number,
                   current_user::text as role,
                   current_setting('transaction_read_only') = 'off' and not pg_is_in_recovery() as is_writable,
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
    revision = connection.execute(text("select version_num from alembic_version")).scalar() if is_migrated else None
    return Server(**row.one(), revision=revision)
