"""Builds statistics, pages and exports of attempts."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
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
from project.domain.reports import CodeCount, Counts, Report, StatusCount, bucket_edges, day_edges
from project.queries import attempts as queries
from project.queries import counts, snapshots
from project.queries.filters import SEARCH_TIMEOUT_S
from project.queries.lines import find_escaped_lines, find_lines_one_by_one, find_next_block, lines_query

BLOCK_LINES = 1_353
"""Number of lines per query: more would take more memory, fewer would take more round trips. A divisor of the number of
data rows of a worksheet (1,048,575), so that no block extends over two sheets."""
FIRST_SEARCH_PERIOD = timedelta(days=1)
"""Length of the period that a text search reads first."""
RELATED_PERIOD = timedelta(days=7)
"""Length of the period before and after an attempt in which related attempts are searched by contact."""
BLOCKS_AHEAD = 2
"""Number of blocks queried in advance, so that PostgreSQL prepares blocks while another block is sent."""
WRITER_WAIT_S, OVERLOAD_WAIT_S, PAUSE_S = 0.5, 3.0, 0.002
"""Seconds to wait for transactions that write attempts, seconds to retry queries refused with OverloadedError, and the
pause between tries in seconds."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of consecutive attempts, newest first."""

    attempts: list[AttemptRow]
    has_newer: bool
    has_older: bool
    searched_since: datetime | None = None
    """If a search reached its time limit, the time since which attempts have been searched, otherwise None."""


def build_report(database: Database, attempt_filter: AttemptFilter, zone: ZoneInfo, now: datetime) -> Report:
    """Return the statistics of the selected attempts, up to `max_seq` if that is set."""
    return _run_query(database, _build_report, attempt_filter, zone, now)


def find_last_seq(database: Database) -> int:
    """Return the highest sequence number of an attempt, or 0: the upper bound of a snapshot."""
    return database.read_transaction(snapshots.find_last_seq)


def build_report_from(
    attempts: Sequence[AttemptRow], attempt_filter: AttemptFilter, zone: ZoneInfo, now: datetime
) -> Report:
    """Compute statistics in memory. `attempts` are all selected attempts, newest first."""
    since = attempt_filter.since or (attempts[-1].received_at if attempts else None)
    report = _empty_report(attempt_filter, since, zone, now)
    if report.since is None or _is_empty(report):
        return report
    step, edges = bucket_edges(report.since, report.until, zone)
    return _with_counts(replace(report, step=step), Counts.of(attempts, edges), edges)


def open_export(database: ReadDatabase, attempt_filter: AttemptFilter, zone: ZoneInfo, now: datetime) -> Report:
    """Determine the snapshot and the period of an export; return a report without counts.

    Waits up to WRITER_WAIT_S for open transactions, which could otherwise add attempts to the snapshot later.
    """
    newest = _open_snapshot(database.primary)
    lsn = database.find_primary_lsn()
    report = _run_query(database.requiring_lsn(lsn), _open_report, replace(attempt_filter, max_seq=newest), zone, now)
    return replace(report, lsn=lsn)


def add_export_counts(database: ReadDatabase, report: Report) -> Report:
    """Return the report of an export with its counts, in total and by day."""
    edges = [] if _is_empty(report) else day_edges(report.since or report.until, report.until, report.zone)
    return _run_query(database.requiring_lsn(report.lsn), _add_counts, report.attempt_filter, report, edges)


def _open_snapshot(database: Database) -> int:
    """Return the last sequence number; first wait for transactions that may add lower numbers.

    Waits at most WRITER_WAIT_S, because a transaction may be frozen.
    """
    until = time.monotonic() + WRITER_WAIT_S
    newest, writers = database.read_transaction(snapshots.find_snapshot_end)
    while writers and time.monotonic() < until:
        time.sleep(PAUSE_S)
        writers &= database.read_transaction(snapshots.find_open_writers)
    return newest


def _build_report(connection: Connection, attempt_filter: AttemptFilter, zone: ZoneInfo, now: datetime) -> Report:
    report = _open_report(connection, attempt_filter, zone, now)
    if report.since is None or _is_empty(report):
        return _add_counts(connection, report.attempt_filter, report, [])
    step, edges = bucket_edges(report.since, report.until, zone)
    return _add_counts(connection, report.attempt_filter, replace(report, step=step), edges)


def _open_report(connection: Connection, attempt_filter: AttemptFilter, zone: ZoneInfo, now: datetime) -> Report:
    if attempt_filter.max_seq is None:
        attempt_filter = replace(attempt_filter, max_seq=snapshots.find_last_seq(connection))
    since = attempt_filter.since or queries.find_first_received_at(connection, attempt_filter)
    return _empty_report(attempt_filter, since, zone, now)


def _empty_report(attempt_filter: AttemptFilter, since: datetime | None, zone: ZoneInfo, now: datetime) -> Report:
    until = min(attempt_filter.until or now, now + timedelta(seconds=1))
    if since is not None and attempt_filter.since is None:  # the first attempt, perhaps by a clock that is ahead
        until = max(until, since + timedelta(seconds=1))
    return Report(
        attempt_filter=attempt_filter,
        zone=zone,
        since=since,
        until=until,
        step="day",
        by_status=(),
        by_code=(),
        series=(),
        durations=None,
    )


def _is_empty(report: Report) -> bool:
    return report.since is None or report.since >= report.until


def _add_counts(connection: Connection, attempt_filter: AttemptFilter, report: Report, edges: list[datetime]) -> Report:
    return _with_counts(report, counts.count_attempts(connection, attempt_filter, edges), edges)


def _with_counts(report: Report, counted: Counts, edges: Sequence[datetime]) -> Report:
    return replace(
        report,
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
    """Return a page of the newest attempts, or of attempts next to the ID `before` or `after`."""
    found = _run_query(database, queries.find_attempts, attempt_filter, limit + 1, before=before, after=after)
    more = len(found) > limit
    if after is not None:
        return Page(attempts=found[1:] if more else found, has_newer=more, has_older=True)
    return Page(attempts=found[:limit], has_newer=before is not None, has_older=more)


def search_page(
    database: Database, attempt_filter: AttemptFilter, limit: int, now: datetime, *, before: UUID | None = None
) -> Page:
    """Return a page of the newest matches of a text search, or the matches found in time.

    Searches backwards in periods of growing length, so that matches found before the time limit are returned. The first
    period has no end unless the filter has one, because other instances may have clocks that are ahead.
    """
    end = time.monotonic() + SEARCH_TIMEOUT_S
    first = attempt_filter.since or _run_query(database, queries.find_first_received_at, AttemptFilter())
    until, length = attempt_filter.until, FIRST_SEARCH_PERIOD
    since = min(until or now, now) - length
    found: list[AttemptRow] = []
    while first is not None and len(found) <= limit:
        part = replace(attempt_filter, since=max(first, since), until=until)
        missing, timeout_s = limit + 1 - len(found), max(end - time.monotonic(), 0.01)
        try:
            found += _run_query(database, queries.find_attempts, part, missing, before=before, timeout_s=timeout_s)
        except SearchTooBroadError:
            return Page(attempts=found, has_newer=before is not None, has_older=False, searched_since=until or now)
        if since <= first:
            break
        until, length = since, 2 * length
        since -= length
    return Page(attempts=found[:limit], has_newer=before is not None, has_older=len(found) > limit)


def iter_blocks(database: ReadDatabase, report: Report, layout: Layout, *, size: int = BLOCK_LINES) -> Iterator[Block]:
    """Yield the attempts of a report as blocks of formatted lines, oldest first.

    Each block is read in a short transaction with its own deadline, so that a slow client holds no connection.
    Attempts that retention deletes during the export are missing.
    """
    database = database.requiring_lsn(report.lsn)
    raw = _iter_raw_blocks(database, lines_query(report.attempt_filter, layout, size))
    executor = ThreadPoolExecutor(1, "export")
    try:
        pending = deque(executor.submit(next, raw, None) for _ in range(BLOCKS_AHEAD))
        while raw_block := pending.popleft().result():
            pending.append(executor.submit(next, raw, None))
            content = layout.format_block(raw_block)
            if content is None:
                yield _escape_block(database, report.attempt_filter, layout, raw_block, executor)
            else:
                yield Block(raw_block.rows, content)
    finally:
        executor.shutdown(cancel_futures=True)


def _iter_raw_blocks(database: Database, query: PreparedQuery) -> Iterator[RawBlock]:
    last = UUID(int=0)
    while raw_block := _retry_overloaded(lambda: find_next_block(database, query, last)):  # noqa: B023
        last = raw_block.last
        yield raw_block


def _escape_block(
    database: Database, attempt_filter: AttemptFilter, layout: Layout, raw_block: RawBlock, executor: ThreadPoolExecutor
) -> Block:
    """Format a block line by line; build a line that needs escaping from its values."""

    def fetch(query: Callable[[], T]) -> T:
        return executor.submit(_retry_overloaded, query).result()

    block_lines = raw_block.lines() or fetch(lambda: find_lines_one_by_one(database, attempt_filter, layout, raw_block))
    plain = {layout.id_of(line): layout.format_block(Block(1, line)) for line in block_lines}
    to_escape = [key for key, line in plain.items() if line is None]
    unmasked = attempt_filter.unmasked
    escaped = fetch(lambda: database.read_transaction(find_escaped_lines, layout, to_escape, unmasked=unmasked))
    lines = [line for line in (plain | escaped).values() if line is not None]
    return Block(len(lines), b"".join(lines))


def _retry_overloaded(query: Callable[[], T]) -> T:
    """Run a query; retry it for OVERLOAD_WAIT_S after OverloadedError.

    Without retries, a download would be cut off.
    """
    until = time.monotonic() + OVERLOAD_WAIT_S
    while True:
        try:
            return query()
        except OverloadedError:
            if time.monotonic() > until:
                raise
            time.sleep(PAUSE_S)


def find_attempt(database: ReadDatabase, attempt_id: UUID) -> AttemptDetail | None:
    """Return an attempt or None. Reads the primary, because a replica may lack recent attempts."""
    return database.primary.read_transaction(queries.find_attempt, attempt_id)


def find_neighbours(
    database: Database, attempt_filter: AttemptFilter, attempt_id: UUID
) -> tuple[AttemptRow | None, AttemptRow | None]:
    """Return the next newer and the next older selected attempt; None if there is none."""
    newer = _run_query(database, queries.find_attempts, attempt_filter, 1, after=attempt_id)
    older = _run_query(database, queries.find_attempts, attempt_filter, 1, before=attempt_id)
    return next(iter(newer), None), next(iter(older), None)


def find_related(database: Database, attempt: AttemptRow) -> queries.Related:
    """Return an earlier and a later attempt, probably by the same person as `attempt`.

    These attempts have the same login or, within RELATED_PERIOD, the same name and contact.
    """
    is_complete = True

    def find_at(position: queries.Position) -> list[AttemptRow]:
        nonlocal is_complete
        found = []
        try:
            found.append(database.read_transaction(queries.find_same_login, attempt, position))
            found.append(database.read_transaction(queries.find_same_contact, attempt, position, RELATED_PERIOD))
        except QueryTimeoutError:
            is_complete = False
        return [row for row in found if row]

    earlier, later = find_at("earlier"), find_at("later")
    if later and all(row.status != 201 for row in later):
        later += find_at("created")
    return queries.Related(
        max(earlier, key=lambda row: row.id, default=None),
        min(later, key=lambda row: (row.status != 201, row.id), default=None),
        is_complete,
    )


def count_up_to(database: Database, attempt_filter: AttemptFilter, limit: int) -> int:
    """Return the number of selected attempts; stop counting at `limit` to save time."""
    return _run_query(database, queries.count_up_to, attempt_filter, limit)


def count_attempts(database: Database, attempt_filter: AttemptFilter) -> int:
    """Return the number of selected attempts."""
    return sum(row.count for row in count_statuses(database, attempt_filter))


def count_reasons(database: Database, attempt_filter: AttemptFilter) -> tuple[CodeCount, ...]:
    """Return the counts of rejected and failed attempts by code, the most frequent first."""
    counted = _run_query(database, counts.count_kinds, attempt_filter)
    return tuple(row for row in counted.by_code() if Outcome.of(row.status) in (Outcome.REJECTED, Outcome.FAILED))


def count_statuses(database: Database, attempt_filter: AttemptFilter) -> tuple[StatusCount, ...]:
    """Return the counts of attempts by HTTP status, the most frequent first."""
    return _run_query(database, counts.count_kinds, attempt_filter).by_status()


def _run_query(
    database: Database,
    query: Callable[Concatenate[Connection, AttemptFilter, P], T],
    attempt_filter: AttemptFilter,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run a query in a transaction. Raises SearchTooBroadError if a text search times out."""
    try:
        return database.read_transaction(query, attempt_filter, *args, **kwargs)
    except QueryTimeoutError as error:
        if attempt_filter.is_search:
            raise SearchTooBroadError from error
        raise
