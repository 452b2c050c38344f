"""Aggregates attempts by time, status and code, so that statistics read few rows.

Attempts up to a sequence number, the watermark, are aggregated; later attempts are counted row by row. The sum is exact
if the watermark and the counts are read in one REPEATABLE READ transaction.
"""

import time
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import Connection, select, text, update

from project.domain.attempts import lowest_id
from project.domain.reports import DURATION_BUCKETS_MS
from project.models import Watermark
from project.queries.maintenance import Deleted, check_clocks
from project.queries.snapshots import find_last_seq, find_open_writers, find_snapshot_end

WATERMARK = "attempt_counts"
MAX_WAIT_FOR_WRITERS_S = 0.2
"""Seconds to wait for open transactions that write attempts. If any is still open, aggregation is postponed."""
POLL_S = 0.002
"""Seconds between two queries for open writers."""

DURATION_BUCKET = (
    f"width_bucket(least(duration_ms, {DURATION_BUCKETS_MS[-1]}) - 1, array{list(DURATION_BUCKETS_MS)}) + 1"
)
"""SQL expression for the index, from 1, of the bucket in DURATION_BUCKETS_MS to which an attempt belongs."""

_DELTA_COLUMNS = f"""
    date_bin('15 minutes', received_at, timestamptz '2000-01-01 00:00Z') as at, status, code,
    {DURATION_BUCKET} as bucket, count(*) as number"""
_DURATIONS = ", ".join(
    f"coalesce(sum(d.number) filter (where d.bucket = {bucket}), 0)::bigint"
    for bucket, _ in enumerate(DURATION_BUCKETS_MS, 1)
)
_ADD_DELTAS = f"""
    insert into attempt_counts as c (grain, at, status, code, number, durations)
    select g.grain, g.at, d.status, d.code, sum(d.number), (array[{_DURATIONS}])[1:max(d.bucket)]
      from deltas d cross join lateral (
           values ('15min', d.at), ('hour', date_trunc('hour', d.at, 'UTC')),
                  ('day', date_trunc('day', d.at, 'UTC')), ('month', date_trunc('month', d.at, 'UTC'))
      ) g (grain, at)
     group by g.grain, g.at, d.status, d.code
    on conflict (grain, at, status, code) do update
       set number = c.number + excluded.number,
           durations = (select array_agg(coalesce(old, 0) + coalesce(new, 0) order by bucket)
                          from unnest(c.durations, excluded.durations) with ordinality u (old, new, bucket))"""  # noqa: S608 - constants only
"""Adds the counts in the CTE `deltas`, which may be negative, to the aggregates of all grains."""

_AGGREGATE = f"""
    with deltas as (
        select {_DELTA_COLUMNS} from attempts where seq > :watermark and seq <= :last group by 1, 2, 3, 4
    ){_ADD_DELTAS}"""  # noqa: S608 - constants only
_PRUNE = f"""
    with candidates as (
        (select id, recorded_at from attempts order by seq limit :limit)
        union
        (select id, recorded_at from attempts where id < :first order by id limit :limit)
    ), old as materialized (
        select id from candidates where recorded_at < :before order by id limit :limit
    ), detached as (
        update users set attempt_status = null where id in (select id from old)
    ), deleted as (
        delete from attempts where id in (select id from old) returning *
    ), deltas as (
        select at, status, code, bucket, -number as number
          from (select {_DELTA_COLUMNS} from deleted where seq <= :watermark group by 1, 2, 3, 4) g
    ), subtracted as ({_ADD_DELTAS}
    )
    select count(*) from deleted"""  # noqa: S608 - constants only
_DELETE_EMPTY = """
    delete from attempt_counts
     where grain = any('{month,day,hour,15min}') and at < :before and number = 0"""


def get_watermark(connection: Connection) -> int:
    """Return the watermark: the last aggregated sequence number.

    Pass it to queries as a value: with a subquery, PostgreSQL would scan whole tables.
    """
    return connection.execute(select(Watermark.seq).where(Watermark.name == WATERMARK)).scalar_one()


class Progress(NamedTuple):
    """The result of an aggregation step: numbers of aggregated and remaining sequence numbers.

    Sequence numbers that no attempt has are included.
    """

    aggregated: int
    remaining: int
    """Number of sequence numbers that are not aggregated yet."""


def aggregate_attempts(connection: Connection, minimum: int, limit: int) -> Progress:
    """Aggregate at most `limit` attempts if at least `minimum` are not aggregated.

    Transactions do not commit in the order of their sequence numbers. Therefore waits first, without blocking them, for
    open transactions that write attempts. Does nothing if one of them is still open after MAX_WAIT_FOR_WRITERS_S, or if
    another process is aggregating.
    """
    remaining = max(0, find_last_seq(connection) - get_watermark(connection))
    if remaining < minimum:
        return Progress(0, remaining)
    locked = select(Watermark.seq).where(Watermark.name == WATERMARK).with_for_update(skip_locked=True)
    watermark = connection.execute(locked).scalar_one_or_none()
    if watermark is None:
        return Progress(0, remaining)
    last_seq, writers = find_snapshot_end(connection)
    last = min(last_seq, watermark + limit)
    if not _wait_for_writers(connection, writers):
        return Progress(0, remaining)
    connection.execute(text(_AGGREGATE), {"watermark": watermark, "last": last})
    connection.execute(update(Watermark).where(Watermark.name == WATERMARK).values(seq=last))
    return Progress(int(last - watermark), int(last_seq - last))


def _wait_for_writers(connection: Connection, writers: frozenset[str]) -> bool:
    """Wait until the transactions have ended; return False after MAX_WAIT_FOR_WRITERS_S."""
    end = time.monotonic() + MAX_WAIT_FOR_WRITERS_S
    while writers and time.monotonic() < end:
        time.sleep(POLL_S)
        writers &= find_open_writers(connection)
    return not writers


def prune_attempts(connection: Connection, max_age: timedelta, limit: int) -> Deleted:
    """Delete at most `limit` attempts older than `max_age`; subtract them from the aggregates.

    Users are kept. Locks the watermark to prevent concurrent aggregation. Raises ClocksDifferError.

    The age is computed from `recorded_at`, which PostgreSQL sets. The time in an ID comes from an instance, whose clock
    may be wrong. Candidates are the rows with the lowest `seq`, usually the oldest, and, in case PostgreSQL's
    clock was once ahead, the rows with the lowest IDs. Both columns are indexed, so that a call reads few rows.
    """
    before = check_clocks(connection) - max_age
    locked = select(Watermark.seq).where(Watermark.name == WATERMARK).with_for_update()
    watermark = connection.execute(locked).scalar_one()
    values = {"first": lowest_id(before), "before": before, "limit": limit, "watermark": watermark}
    deleted = connection.execute(text(_PRUNE), values).scalar_one()
    if deleted:
        connection.execute(text(_DELETE_EMPTY), {"before": before})
    return Deleted(int(deleted), before)
