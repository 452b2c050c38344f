"""Numbers about attempts: what the page shows, the API answers and the files begin with."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from project.domain.attempts import AttemptFilter, Outcome

MAX_BUCKETS = 60

LIMITS_MS: tuple[int, ...] = (
    *range(1, 20), *range(20, 50, 2), *range(50, 100, 5),
    *range(100, 200, 10), *range(200, 500, 20), *range(500, 1000, 50),
    *range(1000, 2000, 100), *range(2000, 5000, 200), 5000, 10_000,
)  # fmt: skip
"""Durations are counted by the first of these that they do not exceed: percentiles cannot be added up, numbers can.

"Within 110 ms" is true then, and at most a tenth too much. Counts in the database stand in this order: whoever changes
it has to count anew.
"""


@dataclass(frozen=True, slots=True)
class StatusCount:
    """How many attempts ended with an HTTP status."""

    status: int
    count: int


@dataclass(frozen=True, slots=True)
class CodeCount:
    """How many attempts ended for a reason."""

    code: str
    status: int
    count: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """One column of the chart: [since, until)."""

    since: datetime
    until: datetime
    created: int
    rejected: int
    failed: int
    unchanged: int

    @property
    def total(self) -> int:
        """All attempts of this time."""
        return self.created + self.rejected + self.failed + self.unchanged


@dataclass(frozen=True, slots=True)
class Durations:
    """Half, 95 % and 99 % of the answers took no longer than this, in milliseconds, as exact as `LIMITS_MS`."""

    p50: int
    p95: int
    p99: int


class Kind(NamedTuple):
    """What attempts are counted by."""

    place: int
    """Number of the edge of a time series behind which they lie, the first being 1."""
    status: int
    code: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How many attempts of each kind there are, and how many of each place among `LIMITS_MS`, the first being 1."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    durations: Counter[int] = field(default_factory=Counter)

    def by_status(self) -> tuple[StatusCount, ...]:
        """Return the number of attempts for each HTTP status, the most frequent first."""
        numbers: Counter[int] = Counter()
        for kind, number in self.kinds.items():
            numbers[kind.status] += number
        rows = (StatusCount(status, number) for status, number in numbers.items())
        return tuple(sorted(rows, key=lambda row: (-row.count, row.status)))

    def by_code(self) -> tuple[CodeCount, ...]:
        """Return the number of attempts for each reason, the most frequent first."""
        numbers: Counter[tuple[str, int]] = Counter()
        for kind, number in self.kinds.items():
            numbers[kind.code, kind.status] += number
        rows = (CodeCount(code, status, number) for (code, status), number in numbers.items())
        return tuple(sorted(rows, key=lambda row: (-row.count, row.code, row.status)))

    def series(self, edges: Sequence[datetime]) -> tuple[Bucket, ...]:
        """Return the number of attempts for each outcome between two neighbouring edges, empty buckets included."""
        numbers: Counter[tuple[int, Outcome]] = Counter()
        for kind, number in self.kinds.items():
            numbers[kind.place, Outcome.of(kind.status)] += number
        return tuple(
            Bucket(since, until, **{outcome.value: numbers[place, outcome] for outcome in Outcome})
            for place, (since, until) in enumerate(pairwise(edges), start=1)
        )

    def spread(self) -> Durations | None:
        """Return how long answers took, None when there was none."""
        total = self.durations.total()
        return Durations(*(self._within(total * percent) for percent in (50, 95, 99))) if total else None

    def _within(self, hundredths: int) -> int:
        """Return the shortest time within which so many hundredths of an answer were given."""
        place = 0
        while hundredths > 0:
            place += 1
            hundredths -= 100 * self.durations[place]
        return LIMITS_MS[place - 1]


class Period(NamedTuple):
    """A period of a report; `since` is None if it has no attempts."""

    since: datetime | None
    until: datetime
    zone: ZoneInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All numbers about the attempts that a filter chooses."""

    attempt_filter: AttemptFilter
    zone: ZoneInfo
    since: datetime | None
    """Start of the period, or time of the first attempt when everything was chosen; None when there is none."""
    until: datetime
    step: str
    """Width of a bucket: `30min`, `3h`, `day`, `week` or `month`."""
    by_status: tuple[StatusCount, ...]
    by_code: tuple[CodeCount, ...]
    series: tuple[Bucket, ...]
    durations: Durations | None
    lsn: str | None = None
    """WAL position of the primary when the snapshot was opened: a replica that has not replayed it lacks attempts."""

    def count(self, outcome: Outcome) -> int:
        """Return how many attempts had this outcome."""
        return sum(row.count for row in self.by_status if Outcome.of(row.status) is outcome)

    @property
    def period(self) -> Period:
        """The period, with its zone."""
        return Period(self.since, self.until, self.zone)

    @property
    def total(self) -> int:
        """All attempts chosen."""
        return sum(row.count for row in self.by_status)

    @property
    def created(self) -> int:
        """Users created."""
        return self.count(Outcome.CREATED)

    @property
    def rejected(self) -> int:
        """Requests that were wrong (4xx)."""
        return self.count(Outcome.REJECTED)

    @property
    def failed(self) -> int:
        """Requests that we failed (5xx, or cut off)."""
        return self.count(Outcome.FAILED)

    @property
    def unchanged(self) -> int:
        """Dry runs and replays."""
        return self.count(Outcome.UNCHANGED)

    @property
    def ends(self) -> tuple[tuple[int, str], ...]:
        """How attempts ended: status and code, the most frequent first."""
        return tuple((row.status, row.code) for row in self.by_code)

    @property
    def reasons(self) -> tuple[CodeCount, ...]:
        """Why users were not created, the most frequent first."""
        return tuple(row for row in self.by_code if Outcome.of(row.status) in (Outcome.REJECTED, Outcome.FAILED))


Count = Callable[[], Report]
"""Counts the attempts of a file that has begun."""


def day_edges(since: datetime, until: datetime, zone: ZoneInfo) -> list[datetime]:
    """Return the midnights of the shown zone around [since, until)."""
    return _day_edges(since, until, zone, 1)


def bucket_edges(since: datetime, until: datetime, zone: ZoneInfo) -> tuple[str, list[datetime]]:
    """Return the step's name and the edges of at most `MAX_BUCKETS` buckets that cover [since, until).

    Edges fall on whole half hours, hours, days, Mondays or months of the shown zone, also across a change of clocks.
    """
    length = _wall(until, zone) - _wall(since, zone)
    if length <= timedelta(days=1, hours=1):
        return "30min", _clock_edges(since, until, zone, timedelta(minutes=30))
    if length <= timedelta(days=7, hours=1):
        return "3h", _clock_edges(since, until, zone, timedelta(hours=3))
    if length <= timedelta(days=MAX_BUCKETS - 1):
        return "day", _day_edges(since, until, zone, 1)
    if length <= timedelta(weeks=MAX_BUCKETS - 1):
        return "week", _day_edges(since, until, zone, 7)
    return "month", _month_edges(since, until, zone)


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return what a clock on the wall shows: days of 23 or 25 hours are whole days there."""
    return moment.astimezone(zone).replace(tzinfo=None)


def _midnight(moment: datetime, zone: ZoneInfo) -> datetime:
    return _wall(moment, zone).replace(hour=0, minute=0, second=0, microsecond=0)


def _clock_edges(since: datetime, until: datetime, zone: ZoneInfo, step: timedelta) -> list[datetime]:
    midnight = _midnight(since, zone)
    first = midnight + step * ((_wall(since, zone) - midnight) // step)
    return _edges(first, until, zone, lambda wall: wall + step)


def _day_edges(since: datetime, until: datetime, zone: ZoneInfo, days: int) -> list[datetime]:
    first = _midnight(since, zone)
    if days == 7:
        first -= timedelta(days=first.weekday())
    return _edges(first, until, zone, lambda wall: wall + timedelta(days=days))


def _month_edges(since: datetime, until: datetime, zone: ZoneInfo) -> list[datetime]:
    first, last = _midnight(since, zone).replace(day=1), _wall(until, zone)
    every = -(-((last.year - first.year) * 12 + last.month - first.month + 1) // (MAX_BUCKETS - 1))

    def following(wall: datetime) -> datetime:
        months = wall.month - 1 + every
        return wall.replace(year=wall.year + months // 12, month=months % 12 + 1)

    return _edges(first, until, zone, following)


def _edges(
    wall: datetime, until: datetime, zone: ZoneInfo, following: Callable[[datetime], datetime]
) -> list[datetime]:
    """Return the moments at which the clocks show `wall` and what follows, up to the first that is not before `until`.

    Times that the clocks skip in spring stand for moments after the gap (PEP 495): none may come twice or out of order.
    """
    moments = [wall.replace(tzinfo=zone).astimezone(UTC)]
    while moments[-1] < until:
        wall = following(wall)
        moment = wall.replace(tzinfo=zone).astimezone(UTC)
        if moment > moments[-1]:
            moments.append(moment)
    return [moment.astimezone(zone) for moment in moments]
