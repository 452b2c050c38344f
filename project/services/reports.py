"""Statistics: one picture of the attempts that a filter chooses."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from project.database import Database, PreparedQuery, ReadDatabase
from project.domain.attempts import AttemptDetail, AttemptFilter, AttemptRow, Outcome
from project.domain.errors import OverloadedError, QueryTimeoutError, SearchTooBroadError
from project.domain.lines import Block, Layout, RawBlock
from project.domain.reports import CodeCount, Report, StatusCount, bucket_edges, day_edges
from project.queries import attempts as rows
from project.queries import counts, snapshots
from project.queries.lines import find_escaped_lines, find_lines, find_lines_one_by_one, lines_query

BLOCK = 1_353
"""Lines made at once: enough to make round trips cheap, little enough to keep memory flat. A sheet of a workbook
(1,048,575 rows) takes a whole number of blocks, so that none has to be cut."""
AHEAD = 2
"""Blocks asked for before they are needed: while one lies ready, PostgreSQL writes the next."""
WRITERS_S, PATIENCE_S, PAUSE_S = 0.5, 3.0, 0.002
"""How long a picture waits for writers, and a file for its turn; how often they ask."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some attempts in a row, newest first, and whether there are newer and older ones."""

    attempts: list[AttemptRow]
    has_newer: bool
    has_older: bool


def build_report(database: Database, attempt_filter: AttemptFilter, zone: ZoneInfo, now: datetime) -> Report:
    """Count the chosen attempts; every number and every later row is of the same picture.

    Its filter is closed by the last attempt recorded so far.
    """
    return _ask(database, _build, attempt_filter, zone, now)


def begin_export(database: ReadDatabase, attempt_filter: AttemptFilter, zone: ZoneInfo, now: datetime) -> Report:
    """Return what is known of a file before anything is counted, its numbers being empty.

    Its filter is closed by a picture to which no writer adds any more.
    """
    newest = _open_snapshot(database.primary)
    lsn = database.find_primary_lsn()
    begun = _ask(database.at_least(lsn), _begin, replace(attempt_filter, max_seq=newest), zone, now)
    return replace(begun, lsn=lsn)


def count_export(database: ReadDatabase, begun: Report) -> Report:
    """Count the attempts of a file, day by day."""
    edges = [] if _is_empty(begun) else day_edges(begun.since or begun.until, begun.until, begun.zone)
    return _ask(database.at_least(begun.lsn), _count, begun.attempt_filter, begun, edges)


def _open_snapshot(database: Database) -> int:
    """Return the number of the last attempt recorded so far, when all before it are decided, too.

    One whose writer hangs for longer than writers may take (a frozen process) is not waited for.
    """
    until = time.monotonic() + WRITERS_S
    newest, writers = database.read_transaction(snapshots.find_snapshot_end)
    while writers and time.monotonic() < until:
        time.sleep(PAUSE_S)
        writers &= database.read_transaction(snapshots.find_open_writers)
    return newest


def _build(connection: Connection, attempt_filter: AttemptFilter, zone: ZoneInfo, now: datetime) -> Report:
    begun = _begin(connection, attempt_filter, zone, now)
    if begun.since is None or _is_empty(begun):
        return _count(connection, begun.attempt_filter, begun, [])
    step, edges = bucket_edges(begun.since, begun.until, zone)
    return _count(connection, begun.attempt_filter, replace(begun, step=step), edges)


def _begin(connection: Connection, attempt_filter: AttemptFilter, zone: ZoneInfo, now: datetime) -> Report:
    if attempt_filter.max_seq is None:
        attempt_filter = replace(attempt_filter, max_seq=snapshots.find_last_seq(connection))
    return Report(
        attempt_filter=attempt_filter,
        zone=zone,
        since=attempt_filter.since or rows.find_first_received_at(connection, attempt_filter),
        until=min(attempt_filter.until or now, now + timedelta(seconds=1)),
        step="day",
        by_status=(),
        by_code=(),
        series=(),
        durations=None,
    )


def _is_empty(begun: Report) -> bool:
    return begun.since is None or begun.since >= begun.until


def _count(connection: Connection, attempt_filter: AttemptFilter, begun: Report, edges: list[datetime]) -> Report:
    counted = counts.count(connection, attempt_filter, edges)
    return replace(
        begun,
        by_status=counted.by_status(),
        by_code=counted.by_code(),
        series=counted.series(edges),
        durations=counted.percentiles(),
    )


def get_page(
    database: Database,
    attempt_filter: AttemptFilter,
    limit: int,
    *,
    before: UUID | None = None,
    after: UUID | None = None,
) -> Page:
    """Return the newest chosen attempts, or those next to `before` (older) or `after` (newer)."""
    found = _ask(database, rows.find_attempts, attempt_filter, limit + 1, before=before, after=after)
    more = len(found) > limit
    if after is not None:
        return Page(attempts=found[1:] if more else found, has_newer=more, has_older=True)
    return Page(attempts=found[:limit], has_newer=before is not None, has_older=more)


def iter_blocks(database: ReadDatabase, report: Report, layout: Layout, *, size: int = BLOCK) -> Iterator[Block]:
    """Yield the attempts that `report` is about as lines, oldest first, the next ones being written meanwhile.

    Each block is a short transaction with a deadline of its own: a slow reader holds no connection. Attempts that
    retention removes meanwhile are missing.
    """
    database = database.at_least(report.lsn)
    raw = _iter_raw(database, lines_query(report.attempt_filter, layout, size))
    helper = ThreadPoolExecutor(1, "export")
    try:
        coming = deque(helper.submit(next, raw, None) for _ in range(AHEAD))
        while found := coming.popleft().result():
            coming.append(helper.submit(next, raw, None))
            content = layout.format_block(found)
            if content is None:
                yield _escaped(database, report.attempt_filter, layout, found, helper)
            else:
                yield Block(found.rows, content)
    finally:
        helper.shutdown(cancel_futures=True)


def _iter_raw(database: Database, question: PreparedQuery) -> Iterator[RawBlock]:
    last = UUID(int=0)
    while found := _patiently(lambda: find_lines(database, question, last)):  # noqa: B023
        last = found.last
        yield found


def _escaped(
    database: Database, attempt_filter: AttemptFilter, layout: Layout, found: RawBlock, helper: ThreadPoolExecutor
) -> Block:
    """Return raw lines as the file has them; those that need it are put together from their values."""

    def ask(work: Callable[[], T]) -> T:
        return helper.submit(_patiently, work).result()

    single = found.lines() or ask(lambda: find_lines_one_by_one(database, attempt_filter, layout, found))
    lines = {layout.id_of(line): layout.format_block(Block(1, line)) for line in single}
    odd = [key for key, line in lines.items() if line is None]
    escaped = ask(lambda: database.read_transaction(find_escaped_lines, layout, odd))
    whole = [line for line in (lines | escaped).values() if line is not None]
    return Block(len(whole), b"".join(whole))


def _patiently(ask: Callable[[], T]) -> T:
    """Ask again for a while when too many readers wait: half a file is worth less than a late page."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except OverloadedError:
            if time.monotonic() > until:
                raise
            time.sleep(PAUSE_S)


def find_attempt(database: ReadDatabase, attempt_id: UUID) -> AttemptDetail | None:
    """Return all that is kept of one attempt, from the primary: who was just answered finds it."""
    return database.primary.read_transaction(rows.find_attempt, attempt_id)


def find_neighbours(
    database: Database, attempt_filter: AttemptFilter, attempt_id: UUID
) -> tuple[AttemptRow | None, AttemptRow | None]:
    """Return the attempts just newer and just older than this one inside the filter."""
    newer = _ask(database, rows.find_attempts, attempt_filter, 1, after=attempt_id)
    older = _ask(database, rows.find_attempts, attempt_filter, 1, before=attempt_id)
    return next(iter(newer), None), next(iter(older), None)


def count_up_to(database: Database, attempt_filter: AttemptFilter, most: int) -> int:
    """Return how many attempts are chosen, but no more than `most`: the answer takes no longer for millions."""
    return _ask(database, rows.count_up_to, attempt_filter, most)


def count_attempts(database: Database, attempt_filter: AttemptFilter) -> int:
    """Return how many attempts are chosen."""
    return sum(row.count for row in count_statuses(database, attempt_filter))


def count_reasons(database: Database, attempt_filter: AttemptFilter) -> tuple[CodeCount, ...]:
    """Return why users were not created, the most frequent reason first."""
    counted = _ask(database, counts.count_kinds, attempt_filter)
    return tuple(row for row in counted.by_code() if Outcome.of(row.status) in (Outcome.REJECTED, Outcome.FAILED))


def count_statuses(database: Database, attempt_filter: AttemptFilter) -> tuple[StatusCount, ...]:
    """Return how many attempts ended with each HTTP status, the most frequent first."""
    return _ask(database, counts.count_kinds, attempt_filter).by_status()


def _ask(
    database: Database,
    question: Callable[Concatenate[Connection, AttemptFilter, P], T],
    attempt_filter: AttemptFilter,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Ask. Where a search takes too long PostgreSQL is well: raises SearchTooBroadError."""
    try:
        return database.read_transaction(question, attempt_filter, *args, **kwargs)
    except QueryTimeoutError as error:
        if attempt_filter.is_search:
            raise SearchTooBroadError from error
        raise
