"""Reads the data of the results page and of the page of an attempt."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

from project.database import Database, ReadDatabase
from project.domain.attempts import AttemptDetail, AttemptFilter, AttemptRow, Outcome
from project.domain.errors import QueryTimeoutError, SearchTooBroadError
from project.domain.reports import CodeCount, Report, StatusCount
from project.presentation.privacy import mask_for_reader
from project.presentation.selection import Selection
from project.reports.charts import Anomaly, Chart, build_chart, find_anomaly
from project.services import reports as service

PAGE_SIZE = 25
MAX_NEWER = 99
"""Maximum number of newer attempts that a polling page announces."""
NIL_ID = UUID(int=0)
"""An ID that is lower than the ID of any attempt."""
MAX_SAME_LOGIN = 1000
"""Maximum number to which earlier attempts with the same login are counted."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facets:
    """The codes and statuses that the reader can filter by, with numbers of attempts.

    Counts by code ignore the filter by code, and counts by status ignore the filter by status.
    """

    reasons: tuple[CodeCount, ...]
    statuses: tuple[StatusCount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyNote:
    """An anomaly and the most frequent code of its rejections."""

    anomaly: Anomaly
    code: str
    is_nearly_all: bool
    """Whether at least 80 % of the rejections have this code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The data of the results page.

    A part is None if its query timed out or it has nothing to show.
    """

    report: Report | None
    facets: Facets | None = None
    previous: int | None = None
    """Number of attempts in the previous period; None if there is none, if recording began after its start, or if the
    query timed out."""
    chart: Chart | None = None
    anomaly_note: AnomalyNote | None = None
    page: service.Page | None = None
    newer_total: int | None = 0
    """Number of attempts that are newer than those on the page; None if the query timed out."""
    total_all_time: int | None = None
    """Number of attempts with these filters over all time; set only if the period has none. None if the query timed
    out."""
    has_no_attempts: bool = False
    """Whether the table has no attempts at all; determined only if no attempt is selected."""
    lag_s: float = 0
    """Lag in seconds of the replica that the data was read from; infinite if unknown."""
    newest_id: UUID | None = None
    """ID of the newest attempt, or NIL_ID for an empty list: the page polls for attempts after it. None if the page
    does not poll, because it does not show the end of an open period."""


def get_results(database: Database, selection: Selection) -> Results:
    """Read the data of the results page. The list is masked for the reader.

    Statistics, chart and list have the same upper bound `max_seq`, unless the query for the statistics timed out.
    """
    report, page = (
        _search_page(database, selection) if _is_scan(selection) else _read_report_and_page(database, selection)
    )
    attempt_filter = report.attempt_filter if report else selection.filter
    if page is not None:
        page = replace(page, attempts=[mask_for_reader(attempt) for attempt in page.attempts])
    if report is None:
        return Results(report=None, page=page)
    facets, newest_id = _read_facets(database, report), _newest_id(selection, page)
    results = Results(report=report, facets=facets, page=page, newest_id=newest_id)
    if not report.total:
        return replace(
            results,
            total_all_time=try_query(service.count_attempts, database, selection.over_all_time().filter),
            has_no_attempts=not service.get_page(database, AttemptFilter(), 1).attempts,
        )
    return replace(
        results,
        newer_total=_count_newer_than_page(database, attempt_filter, page),
        previous=_count_previous(database, selection, report),
        chart=build_chart(report, selection),
        anomaly_note=_find_anomaly_note(database, report),
    )


def find_last_request_time(database: Database) -> datetime | None:
    """Return when the last attempt was received; None without attempts or after a timeout."""
    page = try_query(service.get_page, database, AttemptFilter(), 1)
    return page.attempts[0].received_at if page and page.attempts else None


def _is_scan(selection: Selection) -> bool:
    return selection.filter.needs_scan and selection.after is None


def _read_report_and_page(database: Database, selection: Selection) -> tuple[Report | None, service.Page | None]:
    """Build the report of the selected attempts, then read a page of them.

    The report or the page is None if its query exceeds its time limit.
    """
    report = try_query(service.build_report, database, selection.filter, selection.zone, selection.now)
    attempt_filter = report.attempt_filter if report else selection.filter
    bounds = {"before": selection.before, "after": selection.after}
    return report, try_query(service.get_page, database, attempt_filter, PAGE_SIZE, **bounds)


def _search_page(database: Database, selection: Selection) -> tuple[Report | None, service.Page | None]:
    """Search for the newest matches, then build the report of all matches.

    If the page has all matches, the report needs no second search. If the search reached its time limit, the report is
    None, because counting would take too long, too. The page is None only if its first query exceeds the limit.
    """
    zone, now, before = selection.zone, selection.now, selection.before
    attempt_filter = replace(selection.filter, max_seq=service.find_last_seq(database))
    page = try_query(service.search_page, database, attempt_filter, PAGE_SIZE, now, before=before)
    if page is None or page.searched_since is not None:
        return None, page
    if before is None and not page.has_older:
        return service.build_report_from(page.attempts, attempt_filter, zone, now), page
    return try_query(service.build_report, database, attempt_filter, zone, now), page


def _newest_id(selection: Selection, page: service.Page | None) -> UUID | None:
    if page is None or page.has_newer or selection.filter.until is not None:
        return None
    return page.attempts[0].id if page.attempts else NIL_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class NewerCount:
    """The number of attempts that are newer than those of a page."""

    count: int
    has_more: bool
    """Whether there are more than `count`."""
    etag: str


def count_newer(database: Database, selection: Selection, newest_id: UUID) -> NewerCount:
    """Count the selected attempts that are newer than `newest_id`, up to MAX_NEWER."""
    page = service.get_page(database, selection.filter, MAX_NEWER, after=newest_id)
    count = len(page.attempts)
    return NewerCount(count=count, has_more=page.has_newer, etag=f'"{newest_id}-{count}"')


def _read_facets(database: Database, report: Report) -> Facets | None:
    attempt_filter = report.attempt_filter
    reasons: tuple[CodeCount, ...] | None = report.by_error_code
    statuses: tuple[StatusCount, ...] | None = report.by_status
    if attempt_filter.codes:
        reasons = try_query(service.count_reasons, database, replace(attempt_filter, codes=frozenset()))
    if attempt_filter.statuses:
        statuses = try_query(service.count_statuses, database, replace(attempt_filter, statuses=frozenset()))
    return None if reasons is None or statuses is None else Facets(reasons=reasons, statuses=statuses)


def _count_previous(database: Database, selection: Selection, report: Report) -> int | None:
    """Count the attempts of the previous period.

    Returns None if there is no previous period, if recording began after its start, or if the query exceeds its time
    limit.
    """
    if selection.previous_period is None:
        return None
    since, until = selection.previous_period
    older = service.get_page(database, AttemptFilter(until=since), 1)
    previous = replace(report.attempt_filter, since=since, until=until)
    return try_query(service.count_attempts, database, previous) if older.attempts else None


def _count_newer_than_page(database: Database, attempt_filter: AttemptFilter, page: service.Page | None) -> int | None:
    """Count the attempts newer than those of a page; None if the query exceeds its time limit."""
    if page is None or not page.attempts or not page.has_newer:
        return 0
    first = page.attempts[0].received_at + timedelta(microseconds=1)
    if attempt_filter.until is not None and first >= attempt_filter.until:
        return 0
    return try_query(service.count_attempts, database, replace(attempt_filter, since=first))


def _find_anomaly_note(database: Database, report: Report) -> AnomalyNote | None:
    anomaly = find_anomaly(report)
    if anomaly is None:
        return None
    bucket = anomaly.bucket
    bucket_filter = replace(
        report.attempt_filter,
        since=max(bucket.since, report.attempt_filter.since or bucket.since),
        until=min(bucket.until, report.attempt_filter.until or bucket.until),
        outcomes=frozenset({Outcome.REJECTED}),
    )
    reasons = try_query(service.count_reasons, database, bucket_filter)
    if not reasons:
        return None
    return AnomalyNote(anomaly=anomaly, code=reasons[0].code, is_nearly_all=reasons[0].count >= 0.8 * bucket.rejected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """The data of the page of an attempt: the attempt, its neighbours and related attempts."""

    attempt: AttemptDetail
    newer: AttemptRow | None
    older: AttemptRow | None
    selection: Selection
    """The selection in which `newer` and `older` are next to the attempt. Both are None if there are no such attempts
    or the query timed out."""
    earlier: AttemptRow | None
    """The previous attempt, probably of the same person, or None."""
    later: AttemptRow | None
    """The next attempt, probably of the same person, or None; preferably the one that created the user."""
    is_complete: bool
    """Whether the searches for `earlier` and `later` were complete. If not, None means: not found in time."""
    same_login_count: int = 0
    """Number of earlier attempts with the same login, counted up to MAX_SAME_LOGIN; 0 also without a login or
    if the query timed out."""
    same_login_query: str = ""
    """Query string that selects those earlier attempts; "" without a login or if the reader must not see it."""

    @property
    def has_more_same_login(self) -> bool:
        """Whether `same_login_count` has reached its maximum."""
        return self.same_login_count == MAX_SAME_LOGIN


def find_details(database: ReadDatabase, attempt_id: UUID, selection: Selection) -> Details | None:
    """Read the data of the page of an attempt; return None if the attempt does not exist."""
    attempt = service.find_attempt(database, attempt_id)
    if attempt is None:
        return None
    if not _is_within(attempt, selection.filter):
        selection = selection.over_all_time()
    neighbours = try_query(service.find_neighbours, database, selection.filter, attempt_id)
    newer, older = neighbours or (None, None)
    visible = mask_for_reader(attempt)
    related = service.find_related(database, attempt)
    details = Details(
        attempt=visible,
        newer=newer,
        older=older,
        earlier=related.earlier and mask_for_reader(related.earlier),
        later=related.later and mask_for_reader(related.later),
        is_complete=related.is_complete,
        selection=selection,
    )
    if not attempt.username:
        return details
    same_login = AttemptFilter(text=f"={attempt.username}", until=attempt.received_at, unmasked=True)
    return replace(
        details,
        same_login_count=try_query(service.count_up_to, database, same_login, MAX_SAME_LOGIN) or 0,
        same_login_query=selection.query_string_of_search(same_login.text, attempt.received_at)
        if visible.username == attempt.username
        else "",
    )


def _is_within(attempt: AttemptRow, attempt_filter: AttemptFilter) -> bool:
    """Return whether an attempt was received in the period of a filter."""
    return (attempt_filter.since is None or attempt.received_at >= attempt_filter.since) and (
        attempt_filter.until is None or attempt.received_at < attempt_filter.until
    )


def try_query(
    query: Callable[Concatenate[Database, P], T], database: Database, *args: P.args, **kwargs: P.kwargs
) -> T | None:
    """Return the result of a query, or None if the query exceeds its time limit."""
    try:
        return query(database, *args, **kwargs)
    except (SearchTooBroadError, QueryTimeoutError):
        return None
