"""Statistics: one picture of the attempts that a filter chooses."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from project.domain.attempts import AttemptDetail, AttemptFilter, AttemptRow, Outcome
from project.domain.errors import DatabaseUnavailableError, SearchTooBroadError
from project.domain.reports import CodeCount, Report, StatusCount, bucket_edges, day_edges
from project.outage import Database, is_timeout
from project.queries import attempts as rows
from project.queries import counts

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some attempts in a row, newest first, and whether there are newer and older ones."""

    attempts: list[AttemptRow]
    has_newer: bool
    has_older: bool


def build_report(
    database: Database,
    chosen: AttemptFilter,
    zone: ZoneInfo,
    now: datetime,
    *,
    days: bool = False,
) -> Report:
    """Count the chosen attempts; every number and every later row is of the same picture.

    Its filter is closed by the last attempt recorded so far. `days` asks for one bucket a day, as files have them.
    """
    return _ask(database, _build, chosen, zone, now, days)


def _build(connection: Connection, chosen: AttemptFilter, zone: ZoneInfo, now: datetime, days: bool) -> Report:
    chosen = replace(chosen, newest=counts.find_newest(connection))
    since = chosen.since or rows.find_first_moment(connection, chosen)
    until = min(chosen.until or now, now + timedelta(seconds=1))
    step, edges = ("day", []) if since is None or since >= until else bucket_edges(since, until, zone)
    if days and edges:
        step, edges = "day", day_edges(since or until, until, zone)
    counted = counts.count(connection, chosen, edges)
    return Report(
        chosen=chosen,
        zone=zone,
        since=since,
        until=until,
        step=step,
        by_status=counted.by_status(),
        by_code=counted.by_code(),
        series=counted.series(edges),
        durations=counted.spread(),
    )


def get_page(
    database: Database,
    chosen: AttemptFilter,
    limit: int,
    *,
    before: UUID | None = None,
    after: UUID | None = None,
) -> Page:
    """Return the newest chosen attempts, or those next to `before` (older) or `after` (newer)."""
    found = _ask(database, rows.find_attempts, chosen, limit + 1, before=before, after=after)
    more = len(found) > limit
    if after is not None:
        return Page(attempts=found[1:] if more else found, has_newer=more, has_older=True)
    return Page(attempts=found[:limit], has_newer=before is not None, has_older=more)


def iter_attempts(database: Database, report: Report) -> Iterator[AttemptRow]:
    """Yield the attempts that `report` counted, oldest first, without holding a connection in between."""
    return rows.iter_attempts(database, report.chosen)


def find_attempt(database: Database, attempt_id: UUID) -> AttemptDetail | None:
    """Return all that is kept of one attempt."""
    return database.read(rows.find_attempt, attempt_id)


def find_neighbours(
    database: Database, chosen: AttemptFilter, attempt_id: UUID
) -> tuple[AttemptRow | None, AttemptRow | None]:
    """Return the attempts just newer and just older than this one inside the filter."""
    newer = _ask(database, rows.find_attempts, chosen, 1, after=attempt_id)
    older = _ask(database, rows.find_attempts, chosen, 1, before=attempt_id)
    return next(iter(newer), None), next(iter(older), None)


def count_up_to(database: Database, chosen: AttemptFilter, most: int) -> int:
    """Return how many attempts are chosen, but no more than `most`: the answer takes no longer for millions."""
    return _ask(database, rows.count_up_to, chosen, most)


def count_attempts(database: Database, chosen: AttemptFilter) -> int:
    """Return how many attempts are chosen."""
    return sum(row.count for row in count_statuses(database, chosen))


def count_reasons(database: Database, chosen: AttemptFilter) -> tuple[CodeCount, ...]:
    """Return why users were not created, the most frequent reason first."""
    counted = _ask(database, counts.count_kinds, chosen)
    return tuple(row for row in counted.by_code() if Outcome.of(row.status) in (Outcome.REJECTED, Outcome.FAILED))


def count_statuses(database: Database, chosen: AttemptFilter) -> tuple[StatusCount, ...]:
    """Return how many attempts ended with each HTTP status, the most frequent first."""
    return _ask(database, counts.count_kinds, chosen).by_status()


def _ask(
    database: Database,
    question: Callable[Concatenate[Connection, AttemptFilter, P], T],
    chosen: AttemptFilter,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Ask. Where a search takes too long PostgreSQL is well: raises SearchTooBroadError."""
    try:
        return database.read(question, chosen, *args, **kwargs)
    except DatabaseUnavailableError as error:
        if chosen.text and error.__cause__ is not None and is_timeout(error.__cause__):
            raise SearchTooBroadError from error
        raise
