"""Attempts counted beforehand, by time, status and code: questions about millions of them look at thousands of rows.

What is counted is marked by a sequence number; what came later is counted as it is. Both together are exact to the
last attempt, provided that mark and counts are read from one snapshot (a transaction of REPEATABLE READ).
"""

import time
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, select, text, update

from project.domain.attempts import first_id
from project.domain.reports import LIMITS_MS
from project.models import Watermark
from project.queries.snapshots import find_end, find_newest, find_writers

NAME = "attempt_counts"
WRITERS_S = 0.2
"""How long the end of writers under way is waited for before counting is put off."""
LOOK_AGAIN_S = 0.002

DURATION = f"width_bucket(least(duration_ms, {LIMITS_MS[-1]}) - 1, array{list(LIMITS_MS)}) + 1"
"""Place of a duration among the limits, the first being 1."""

_PIECES = f"""
    date_bin('15 minutes', received_at, timestamptz '2000-01-01 00:00Z') as at, status, code,
    {DURATION} as place, count(*) as number"""
_EACH_DURATION = ", ".join(
    f"coalesce(sum(p.number) filter (where p.place = {place}), 0)::bigint" for place, _ in enumerate(LIMITS_MS, 1)
)
_ADD = f"""
    insert into attempt_counts as c (grain, at, status, code, number, durations)
    select g.grain, g.at, p.status, p.code, sum(p.number), (array[{_EACH_DURATION}])[1:max(p.place)]
      from pieces p cross join lateral (
           values ('15min', p.at), ('hour', date_trunc('hour', p.at, 'UTC')),
                  ('day', date_trunc('day', p.at, 'UTC')), ('month', date_trunc('month', p.at, 'UTC'))
      ) g (grain, at)
     group by g.grain, g.at, p.status, p.code
    on conflict (grain, at, status, code) do update
       set number = c.number + excluded.number,
           durations = (select array_agg(coalesce(old, 0) + coalesce(new, 0) order by place)
                          from unnest(c.durations, excluded.durations) with ordinality u (old, new, place))"""  # noqa: S608 - texts of our own
"""Adds `pieces` to the counts of all grains; a negative number takes away."""

_REFRESH = f"""
    with pieces as (
        select {_PIECES} from attempts where seq > :counted_to and seq <= :top group by 1, 2, 3, 4
    ){_ADD}"""  # noqa: S608 - texts of our own
_PRUNE = f"""
    with old as materialized (
        select id from attempts where id < :first order by id limit :most
    ), freed as (
        update users set attempt_status = null where id in (select id from old)
    ), gone as (
        delete from attempts where id in (select id from old) returning *
    ), pieces as (
        select at, status, code, place, -number as number
          from (select {_PIECES} from gone where seq <= :counted_to group by 1, 2, 3, 4) g
    ), lowered as ({_ADD}
    )
    select count(*) from gone"""  # noqa: S608 - texts of our own
_SWEEP = """
    delete from attempt_counts
     where grain = any('{month,day,hour,15min}') and at < :before and number = 0"""


def aggregated_up_to(connection: Connection) -> int:
    """Return the mark. Compare with its value: with a subquery PostgreSQL scans the whole table (measured)."""
    return connection.execute(select(Watermark.seq).where(Watermark.name == NAME)).scalar_one()


class Progress(NamedTuple):
    """How far counting got."""

    counted: int
    left: int
    """Attempts that are not counted yet; numbers of the sequence that nobody used are among them."""


def aggregate(connection: Connection, least: int, most: int) -> Progress:
    """Count attempts that are not counted yet, `most` at a time, if there are `least` of them; return how far it got.

    Nobody waits for another one who does the same: then nothing is done. A number drawn from a sequence is no order
    of commits, so those who write at this moment are waited for. They wait for nobody.
    """
    left = max(0, find_newest(connection) - aggregated_up_to(connection))
    if left < least:
        return Progress(0, left)
    marked = select(Watermark.seq).where(Watermark.name == NAME).with_for_update(skip_locked=True)
    mark = connection.execute(marked).scalar_one_or_none()
    if mark is None:
        return Progress(0, left)
    newest, writers = find_end(connection)
    top = min(newest, mark + most)
    if not _have_written(connection, writers):
        return Progress(0, left)
    connection.execute(text(_REFRESH), {"counted_to": mark, "top": top})
    connection.execute(update(Watermark).where(Watermark.name == NAME).values(seq=top))
    return Progress(int(top - mark), int(newest - top))


def _have_written(connection: Connection, writers: frozenset[str]) -> bool:
    """Wait for these who write attempts; tell whether they have ended."""
    end = time.monotonic() + WRITERS_S
    while writers and time.monotonic() < end:
        time.sleep(LOOK_AGAIN_S)
        writers &= find_writers(connection)
    return not writers


def prune(connection: Connection, before: datetime, most: int) -> int:
    """Forget attempts received before a moment, the oldest `most` of them, and take them out of the counts.

    Users stay: the attempt that created them is theirs no more. As long as it lasts nobody counts, so it is known of
    each attempt whether it was counted. Return how many went.
    """
    marked = select(Watermark.seq).where(Watermark.name == NAME).with_for_update()
    mark = connection.execute(marked).scalar_one()
    values = {"first": first_id(before), "most": most, "counted_to": mark}
    gone = connection.execute(text(_PRUNE), values).scalar_one()
    if gone:
        connection.execute(text(_SWEEP), {"before": before})
    return int(gone)
