"""What the pages show, read from the database in one place; views only ask for it and templates only print it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from project.database import Database, ReadDatabase
from project.domain.attempts import AttemptDetail, AttemptFilter, AttemptRow, Outcome
from project.domain.errors import QueryTimeoutError, SearchTooBroadError
from project.domain.reports import CodeCount, Report, StatusCount
from project.presentation.selection import DAYS, Selection
from project.reports.charts import Anomaly, Chart, draw, find_anomaly
from project.services import reports as service

PAGE = 25
OFFERED = 99
"""Newer attempts that are counted; of more than these it is only said that there are more."""
BEFORE_ALL = UUID(int=0)
MANY = 1000
"""Earlier attempts of a login are counted up to here."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facets:
    """Reasons and statuses among which the reader can switch: each leaves its own filter out."""

    reasons: tuple[CodeCount, ...]
    statuses: tuple[StatusCount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """The stretch of time that stands out, and the reason that is most frequent in it."""

    anomaly: Anomaly
    code: str
    is_nearly_all: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The results page. What took too long to count is None: the page stands all the same."""

    report: Report | None
    facets: Facets | None = None
    previous: int | None = None
    """Attempts of the period before, None where it is not known in whole."""
    chart: Chart | None = None
    remark: Remark | None = None
    page: service.Page | None = None
    everywhere: int | None = None
    """Attempts of this filter over all time, asked for when there are none in the period."""
    is_new: bool = False
    """Nothing was ever sent."""
    lag_s: float = 0
    """How far behind the replica was that answered, in seconds; infinite when nobody knows."""
    last: UUID | None = None
    """After which attempt newer ones shall be offered, None where none can come."""


def get_results(database: Database, selection: Selection) -> Results:
    """Return what the results page shows: numbers, rows and all else of one picture."""
    report = unless_too_slow(service.build_report, database, selection.filter, selection.zone, selection.now)
    attempt_filter = report.attempt_filter if report else selection.filter
    page = unless_too_slow(
        service.get_page, database, attempt_filter, PAGE, before=selection.before, after=selection.after
    )
    if report is None:
        return Results(report=None, page=page)
    if not report.total:
        return Results(
            report=report,
            facets=_facets(database, report),
            page=page,
            last=_last(selection, page),
            everywhere=unless_too_slow(service.count_attempts, database, selection.of_everything().filter),
            is_new=not service.get_page(database, AttemptFilter(), 1).attempts,
        )
    return Results(
        report=report,
        facets=_facets(database, report),
        previous=_previous(database, selection, report),
        chart=draw(report, selection),
        remark=_remark(database, report),
        page=page,
        last=_last(selection, page),
    )


def _last(selection: Selection, page: service.Page | None) -> UUID | None:
    if page is None or page.has_newer or selection.filter.until is not None:
        return None
    return page.attempts[0].id if page.attempts else BEFORE_ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Attempts that came since a page was made."""

    count: int
    more: bool
    """Whether there are even more than `count`."""
    etag: str
    """The same as long as the offer is."""


def find_newer(database: Database, selection: Selection, last: UUID) -> Offer:
    """Return what came after `last` inside the filter."""
    page = service.get_page(database, selection.filter, OFFERED, after=last)
    count = len(page.attempts)
    return Offer(count=count, more=page.has_newer, etag=f'"{last}-{count}"')


def _facets(database: Database, report: Report) -> Facets | None:
    reasons: tuple[CodeCount, ...] | None = report.reasons
    statuses: tuple[StatusCount, ...] | None = report.by_status
    if report.attempt_filter.codes:
        freed = replace(report.attempt_filter, codes=frozenset())
        reasons = unless_too_slow(service.count_reasons, database, freed)
    if report.attempt_filter.statuses:
        freed = replace(report.attempt_filter, statuses=frozenset())
        statuses = unless_too_slow(service.count_statuses, database, freed)
    if reasons is None or statuses is None:
        return None
    return Facets(reasons=reasons, statuses=statuses)


def _previous(database: Database, selection: Selection, report: Report) -> int | None:
    """Count the same stretch of time just before, as far into it as we are now; only if all of it was recorded."""
    since = report.attempt_filter.since
    if selection.period not in DAYS or since is None:
        return None
    back = timedelta(days=DAYS[selection.period])
    before = replace(report.attempt_filter, since=since - back, until=selection.now - back)
    older = service.get_page(database, AttemptFilter(until=before.since), 1)
    return unless_too_slow(service.count_attempts, database, before) if older.attempts else None


def _remark(database: Database, report: Report) -> Remark | None:
    anomaly = find_anomaly(report)
    if anomaly is None:
        return None
    bucket = anomaly.bucket
    inside = replace(
        report.attempt_filter,
        since=max(bucket.since, report.attempt_filter.since or bucket.since),
        until=min(bucket.until, report.attempt_filter.until or bucket.until),
        outcomes=frozenset({Outcome.REJECTED}),
    )
    reasons = unless_too_slow(service.count_reasons, database, inside)
    if not reasons:
        return None
    return Remark(anomaly=anomaly, code=reasons[0].code, is_nearly_all=reasons[0].count >= 0.8 * bucket.rejected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """The page of one attempt."""

    attempt: AttemptDetail
    newer: AttemptRow | None
    older: AttemptRow | None
    selection: Selection
    """The filter inside which `newer` and `older` lie."""
    same_login: int = 0
    """Earlier attempts with the same login, `MANY` standing for that many and more."""
    last_same_login: AttemptRow | None = None
    same_login_query: str = ""

    @property
    def has_many(self) -> bool:
        """Whether `same_login` is not all of them."""
        return self.same_login == MANY


def find_details(database: ReadDatabase, attempt_id: UUID, selection: Selection) -> Details | None:
    """Return what the page of one attempt shows, None if there is no such attempt."""
    attempt = service.find_attempt(database, attempt_id)
    if attempt is None:
        return None
    if not _is_within(attempt, selection.filter):
        selection = selection.of_everything()
    neighbours = unless_too_slow(service.find_neighbours, database, selection.filter, attempt_id)
    newer, older = neighbours or (None, None)
    details = Details(attempt=attempt, newer=newer, older=older, selection=selection)
    if not attempt.username:
        return details
    same = AttemptFilter(text=f"={attempt.username}", until=attempt.received_at)
    _, last = unless_too_slow(service.find_neighbours, database, same, attempt_id) or (None, None)
    if last is None:
        return details
    until = attempt.received_at.astimezone(selection.zone).replace(tzinfo=None)
    return replace(
        details,
        same_login=unless_too_slow(service.count_up_to, database, same, MANY) or 0,
        last_same_login=last,
        same_login_query="?" + urlencode({"to": until.isoformat(), "q": same.text}),
    )


def _is_within(attempt: AttemptRow, attempt_filter: AttemptFilter) -> bool:
    """Tell whether an attempt lies in the period: a link to an older one may come without it."""
    return (attempt_filter.since is None or attempt.received_at >= attempt_filter.since) and (
        attempt_filter.until is None or attempt.received_at < attempt_filter.until
    )


def unless_too_slow(
    query: Callable[Concatenate[Database, P], T], database: Database, *args: P.args, **kwargs: P.kwargs
) -> T | None:
    """Return the result of a query, None if it exceeds the statement timeout of a healthy PostgreSQL."""
    try:
        return query(database, *args, **kwargs)
    except (SearchTooBroadError, QueryTimeoutError):
        return None
