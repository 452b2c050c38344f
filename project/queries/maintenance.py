"""Queries that maintain tables and check the server."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select, text

from project.database.prepared import autocommit_cursor
from project.domain.errors import ClocksDifferError
from project.models import Base, IdempotencyKey

MAX_CLOCK_DIFFERENCE = timedelta(minutes=1)
"""Maximum difference between the clocks of PostgreSQL and this machine at which rows are deleted by age."""


def check_clocks(connection: Connection) -> datetime:
    """Return PostgreSQL's time.

    Raises ClocksDifferError if this machine's time differs by more than MAX_CLOCK_DIFFERENCE.
    """
    now, difference = _compare_clocks(connection)
    if abs(difference) > MAX_CLOCK_DIFFERENCE:
        raise ClocksDifferError(difference)
    return now


def measure_clock_difference(connection: Connection) -> float:
    """Return by how many seconds PostgreSQL's clock and this machine's differ; never negative."""
    return abs(_compare_clocks(connection)[1].total_seconds())


def _compare_clocks(connection: Connection) -> tuple[datetime, timedelta]:
    """Return PostgreSQL's time, and the time by which this machine's clock is behind."""
    here = datetime.now(UTC)
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return now, now - here


_PROBE_COMMIT = """
    with nothing as (delete from idempotency_keys where false)
    select pg_logical_emit_message(true, 'useradd', '')"""


class Deleted(NamedTuple):
    """The result of a deletion by age."""

    rows: int
    """Number of deleted rows."""
    before: datetime
    """Only rows that were recorded before this time, or had expired, were deleted."""


def delete_expired_keys(connection: Connection, limit: int) -> Deleted:
    """Delete up to `limit` expired idempotency keys, except locked ones.

    Raises ClocksDifferError.
    """
    now = check_clocks(connection)
    expired = (
        select(IdempotencyKey.key_hash)
        .where(IdempotencyKey.expires_at <= func.now())
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    deleted = connection.execute(delete(IdempotencyKey).where(IdempotencyKey.key_hash.in_(expired)))
    return Deleted(deleted.rowcount, now)


def probe_commit(connection: Connection) -> None:
    """Check in one round trip that PostgreSQL commits writes, without changing any row.

    A read-only server rejects the DELETE even though it matches no rows. pg_logical_emit_message() writes a WAL
    record, so that the commit waits for the disk and for a synchronous standby like any other.
    """
    with autocommit_cursor(connection.connection) as cursor:
        cursor.execute(_PROBE_COMMIT)


def limit_lock_wait(connection: Connection, seconds: float) -> None:
    """Set the lock timeout of the current transaction."""
    connection.execute(select(func.set_config("lock_timeout", f"{round(1000 * seconds)}ms", True)))


def ping(connection: Connection) -> None:
    """Execute a trivial query to check that PostgreSQL responds."""
    connection.execute(select(1))


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Properties of a PostgreSQL server, and privileges of the role that is connected to it."""

    version: str
    version_number: int
    """The setting server_version_num, for example 140005 for 14.5."""
    role: str
    is_writable: bool
    now: datetime
    encoding: str
    """Encoding of the database, which must be UTF8."""
    tables: list[str]
    """Tables of the service that exist in the current schema."""
    may_create: bool
    """Whether the role may create tables, as migrations do."""
    may_alter: bool
    """Whether the role owns a table in the current schema, which allows it to alter the table."""
    may_write: bool
    """Whether the role may read and write rows of all `tables`, and read `revision`."""
    revision: str | None
    """The last migration; None before the first one or if the role may not read it."""


def find_server(connection: Connection) -> ServerInfo:
    """Return the properties of the server and the privileges of the role."""
    row = connection.execute(
        text(
            """
            select current_setting('server_version') as version,
                   current_setting('server_version_num')::integer as version_number,
                   current_user::text as role,
                   current_setting('transaction_read_only') = 'off' and not pg_is_in_recovery() as is_writable,
                   clock_timestamp() as now,
                   current_setting('server_encoding') as encoding,
                   coalesce(array_agg(c.relname::text order by c.relname) filter (where c.relname = any(:ours)), '{}')
                       as tables,
                   coalesce(has_schema_privilege(current_schema(), 'create'), false) as may_create,
                   coalesce(bool_or(pg_has_role(c.relowner, 'usage')), false) as may_alter,
                   coalesce(bool_and(has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert')
                                     and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete'))
                                filter (where c.relname = any(:ours)), true)
                       and coalesce(has_table_privilege(to_regclass('alembic_version'), 'select'), true)
                       and current_schema() is not null as may_write
              from (select) nothing left join pg_class c
                on c.relnamespace = to_regnamespace(current_schema()) and c.relkind in ('r', 'p')
            """
        ),
        {"ours": list(Base.metadata.tables)},
    ).mappings()
    is_readable = text("select has_table_privilege(to_regclass('alembic_version'), 'select')")
    is_migrated = connection.execute(is_readable).scalar()
    current = text("select coalesce(to_jsonb(v) ->> 'version_num', '?') from alembic_version v limit 1")
    revision = connection.execute(current).scalar() if is_migrated else None
    return ServerInfo(**row.one(), revision=revision)


SAMPLE_ROWS = 1000
"""Number of rows at each end of a table that find_secret_ids() reads."""


def find_secret_ids(connection: Connection) -> set[str]:
    """Return the IDs of the secrets that a sample of idempotency keys and passwords depends on.

    The sample consists of the oldest and the newest rows, because there is no index on the secret.
    """
    samples = [
        f"(select kid from idempotency_keys where expires_at > now() order by expires_at {order} limit {SAMPLE_ROWS})"  # noqa: S608
        f" union all (select split_part(password_hash, '$', 2) from (select password_hash from users"
        f" order by id {order} limit {SAMPLE_ROWS}) sample where password_hash like 'hmac-sha256$%')"
        for order in ("asc", "desc")
    ]
    return set(connection.scalars(text(" union ".join(samples))))
