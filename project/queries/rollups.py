"""Attempts counted beforehand, by hour, status and code: questions about millions of them look at thousands of rows.

What is counted is marked by a sequence number; what came later is counted as it is. Both together are exact to the
last attempt, provided that mark and counts are read from one snapshot (a transaction of REPEATABLE READ).
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Select, Subquery, func, literal, select, text, union_all, update
from sqlalchemy.dialects.postgresql import insert

from project.domain.attempts import AttemptFilter, first_id
from project.models import Attempt, AttemptCount, Watermark
from project.queries.filters import conditions, kinds, period

NAME = "attempt_counts"
LOCK_TIMEOUT = "50ms"
"""Whoever writes an attempt waits behind us for that long at the most."""
_HOUR = timedelta(hours=1)


def pieces(connection: Connection, chosen: AttemptFilter, *, by_hour: bool = True) -> Subquery:
    """Return rows (`at`, `status`, `code`, `number`) whose numbers add up to the chosen attempts.

    `by_hour` allows for moments that are whole hours only. A text cannot be looked up in counts.
    """
    since, until = _whole_hours(chosen)
    if chosen.text or not by_hour or (since and until and since >= until):
        return _rows(1, *conditions(chosen)).subquery()
    counted_to = _counted_to(connection)
    newest = chosen.newest
    counts = select(AttemptCount.hour.label("at"), AttemptCount.status, AttemptCount.code, AttemptCount.number)
    counts = counts.where(*kinds(chosen, AttemptCount.status, AttemptCount.code))
    counted = Attempt.seq <= counted_to
    wanted = [*kinds(chosen, Attempt.status, Attempt.code), *period(chosen)]
    parts = [counts]
    if since:
        parts[0] = parts[0].where(AttemptCount.hour >= since)
        parts.append(_rows(1, counted, Attempt.id < first_id(since), *wanted))
    if until:
        parts[0] = parts[0].where(AttemptCount.hour < until)
        parts.append(_rows(1, counted, Attempt.id >= first_id(until), *wanted))
    if newest is None or newest > counted_to:
        parts.append(_rows(1, Attempt.seq > counted_to, *([] if newest is None else [Attempt.seq <= newest]), *wanted))
    elif newest < counted_to:  # counted since the picture was closed
        parts.append(_rows(-1, Attempt.seq > newest, counted, *wanted))
    return union_all(*parts).subquery()


def refresh(connection: Connection, least: int, most: int) -> int:
    """Count attempts that are not counted yet, `most` at a time, if there are `least` of them; return how far it got.

    Nobody waits for another one who does the same: then nothing is done. A number drawn from a sequence is no order
    of commits, so writers are waited for, for a moment, before the end of what can be counted is read.
    """
    newest = select(func.coalesce(func.max(Attempt.seq), 0))
    if connection.execute(newest).scalar_one() < _counted_to(connection) + least:
        return 0
    marked = select(Watermark.seq).where(Watermark.name == NAME).with_for_update(skip_locked=True)
    counted_to = connection.execute(marked).scalar_one_or_none()
    if counted_to is None:
        return 0
    connection.execute(text(f"set local lock_timeout = '{LOCK_TIMEOUT}'"))
    savepoint = connection.begin_nested()
    connection.execute(text("lock table attempts in share row exclusive mode"))
    top = min(connection.execute(newest).scalar_one(), counted_to + most)
    savepoint.rollback()  # gives the lock back
    _count(connection, counted_to, top)
    connection.execute(update(Watermark).where(Watermark.name == NAME).values(seq=top))
    return int(top - counted_to)


def _count(connection: Connection, counted_to: int, top: int) -> None:
    hour = func.date_trunc("hour", Attempt.received_at, "UTC").label("hour")
    found = select(hour, Attempt.status, Attempt.code, func.count())
    found = found.where(Attempt.seq > counted_to, Attempt.seq <= top).group_by(hour, Attempt.status, Attempt.code)
    adding = insert(AttemptCount).from_select(["hour", "status", "code", "number"], found)
    connection.execute(
        adding.on_conflict_do_update(
            index_elements=["hour", "status", "code"],
            set_={"number": AttemptCount.number + adding.excluded.number},
        )
    )


def _counted_to(connection: Connection) -> int:
    """Read the mark as a value: compared with a subquery, PostgreSQL scans the whole table (measured)."""
    return connection.execute(select(Watermark.seq).where(Watermark.name == NAME)).scalar_one()


def _rows(number: int, *wanted: ColumnElement[bool]) -> Select[datetime, int, str, int]:
    columns = (Attempt.received_at.label("at"), Attempt.status, Attempt.code, literal(number).label("number"))
    return select(*columns).where(*wanted)


def _whole_hours(chosen: AttemptFilter) -> tuple[datetime | None, datetime | None]:
    """Return the whole hours inside the period."""
    since = chosen.since and _floor(chosen.since + _HOUR - timedelta(microseconds=1))
    return since, chosen.until and _floor(chosen.until)


def _floor(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
