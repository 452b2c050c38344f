"""Statistics of attempts for pages, API and files."""

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple, Self, TypeVar
from zoneinfo import ZoneInfo

from project.domain.attempts import AttemptFilter, AttemptRow, Outcome

MAX_BUCKETS = 60
"""Maximum number of columns of the chart."""

K = TypeVar("K")

DURATION_BUCKETS_MS: tuple[int, ...] = (
    *range(1, 20), *range(20, 50, 2), *range(50, 100, 5),
    *range(100, 200, 10), *range(200, 500, 20), *range(500, 1000, 50),
    *range(1000, 2000, 100), *range(2000, 5000, 200), 5000, 10_000,
)  # fmt: skip
"""Upper bounds of the histogram buckets of response times. Counts per bucket can be added up, percentiles cannot. A
percentile is reported as the upper bound of its bucket. Aggregates store the counts as arrays in this order: if you
change the bounds, rebuild the aggregates.
"""


@dataclass(frozen=True, slots=True)
class StatusCount:
    """Number of attempts with an HTTP status."""

    status: int
    count: int


@dataclass(frozen=True, slots=True)
class CodeCount:
    """Number of attempts with a code and status."""

    code: str
    status: int
    count: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """Number of attempts per outcome in [since, until): a column of the chart."""

    since: datetime
    until: datetime
    created: int
    rejected: int
    failed: int
    unchanged: int

    @property
    def total(self) -> int:
        return self.created + self.rejected + self.failed + self.unchanged


def rounded_shares(parts: Mapping[K, int]) -> dict[K, int]:
    """Return the share of each part in tenths of a percent. The sum is 1000; 0 without parts.

    Uses the largest remainder method, but gives each part above 0 at least a tenth of a percent.
    """
    total = sum(parts.values())
    if not total:
        return dict.fromkeys(parts, 0)
    tenths = {key: max(1000 * part // total, min(part, 1)) for key, part in parts.items()}
    missing = 1000 - sum(tenths.values())
    largest_first = sorted(parts, key=lambda key: 1000 * parts[key] % total if tenths[key] else 0, reverse=True)
    for key in largest_first[: max(missing, 0)]:
        tenths[key] += 1
    tenths[max(parts, key=lambda key: parts[key])] += min(missing, 0)
    return tenths


@dataclass(frozen=True, slots=True)
class Durations:
    """Percentiles of response times in milliseconds, rounded up to the bound of a bucket.

    Times above the last bound count as that bound.
    """

    p50: int
    p95: int
    p99: int


class CountKey(NamedTuple):
    """The key by which attempts are counted: time bucket, status and code."""

    bucket: int
    """Index of the time bucket from 1. Attempts before the start of the first bucket have 0."""
    status: int
    code: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of attempts by CountKey, and by duration bucket (index from 1)."""

    attempts: Counter[CountKey] = field(default_factory=Counter)
    durations: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, attempts: Sequence[AttemptRow], edges: Sequence[datetime]) -> Self:
        """Count attempts that are in memory, in the same way as the queries in queries/counts.py.

        `edges` are the starts of the time buckets, and the end of the last one.
        """
        longest = DURATION_BUCKETS_MS[-1]
        return cls(
            Counter(CountKey(bisect(edges, row.received_at), row.status, row.code) for row in attempts),
            Counter(bisect(DURATION_BUCKETS_MS, min(row.duration_ms, longest) - 1) + 1 for row in attempts),
        )

    def by_status(self) -> tuple[StatusCount, ...]:
        """Return the counts per HTTP status, the most frequent first."""
        numbers: Counter[int] = Counter()
        for key, number in self.attempts.items():
            numbers[key.status] += number
        rows = (StatusCount(status, number) for status, number in numbers.items())
        return tuple(sorted(rows, key=lambda row: (-row.count, row.status)))

    def by_code(self) -> tuple[CodeCount, ...]:
        """Return the counts per code and status, the most frequent first."""
        numbers: Counter[tuple[str, int]] = Counter()
        for key, number in self.attempts.items():
            numbers[key.code, key.status] += number
        rows = (CodeCount(code, status, number) for (code, status), number in numbers.items())
        return tuple(sorted(rows, key=lambda row: (-row.count, row.code, row.status)))

    def series(self, edges: Sequence[datetime]) -> tuple[Bucket, ...]:
        """Return a bucket for each pair of adjacent edges, even if it has no attempts."""
        numbers: Counter[tuple[int, Outcome]] = Counter()
        for key, number in self.attempts.items():
            numbers[key.bucket, Outcome.of(key.status)] += number
        return tuple(
            Bucket(since, until, **{outcome.value: numbers[index, outcome] for outcome in Outcome})
            for index, (since, until) in enumerate(pairwise(edges), start=1)
        )

    def percentiles(self) -> Durations | None:
        """Return the percentiles of the response times, or None if there are no attempts."""
        total = self.durations.total()
        return Durations(*(self._percentile(total * percent) for percent in (50, 95, 99))) if total else None

    def _percentile(self, hundredths: int) -> int:
        """Return the upper bound in ms of the bucket that contains a percentile.

        It is the first bucket at which 100 times the running count reaches `hundredths`.
        """
        bucket = 0
        while hundredths > 0:
            bucket += 1
            hundredths -= 100 * self.durations[bucket]
        return DURATION_BUCKETS_MS[bucket - 1]


class Period(NamedTuple):
    """The period of a report. `since` is None if the filter has none and there is no attempt."""

    since: datetime | None
    until: datetime
    zone: ZoneInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Statistics of the attempts that a filter selects."""

    attempt_filter: AttemptFilter
    zone: ZoneInfo
    since: datetime | None
    """Start of the filtered period, else the time of the first attempt; None without any attempt."""
    until: datetime
    step: str
    """Width of a bucket: `30min`, `3h`, `day`, `week` or, for one or more months, `month`."""
    by_status: tuple[StatusCount, ...]
    by_code: tuple[CodeCount, ...]
    series: tuple[Bucket, ...]
    durations: Durations | None
    """None without any attempt."""
    lsn: str | None = None
    """WAL position of the primary after the snapshot of an export was opened; None for other reports and without a
    replica. A replica that has not replayed the position may lack attempts."""

    def count(self, outcome: Outcome) -> int:
        """Return the number of attempts with this outcome."""
        return sum(row.count for row in self.by_status if Outcome.of(row.status) is outcome)

    @property
    def period(self) -> Period:
        return Period(self.since, self.until, self.zone)

    @property
    def total(self) -> int:
        return sum(row.count for row in self.by_status)

    @property
    def created(self) -> int:
        """Number of users created."""
        return self.count(Outcome.CREATED)

    @property
    def rejected(self) -> int:
        """Number of attempts refused with 4xx: invalid data, conflicts and rate limits."""
        return self.count(Outcome.REJECTED)

    @property
    def failed(self) -> int:
        """Number of attempts that failed because of the service (5xx, or no response)."""
        return self.count(Outcome.FAILED)

    @property
    def unchanged(self) -> int:
        """Number of dry runs and replays."""
        return self.count(Outcome.UNCHANGED)

    @property
    def kinds(self) -> tuple[tuple[int, str], ...]:
        """Pairs of status and code, the most frequent first."""
        return tuple((row.status, row.code) for row in self.by_code)

    @property
    def by_error_code(self) -> tuple[CodeCount, ...]:
        """The entries of `by_code` for rejected and failed attempts."""
        return tuple(row for row in self.by_code if Outcome.of(row.status) in (Outcome.REJECTED, Outcome.FAILED))


CountAttempts = Callable[[], Report]
"""Counts the attempts of an export and returns the report with these counts."""


def day_edges(since: datetime, until: datetime, zone: ZoneInfo, days: int = 1) -> list[datetime]:
    """Return the edges of buckets of `days` days that cover [since, until).

    Edges are midnights in `zone`; with 7 days, those of Mondays.
    """
    first = _midnight(since, zone)
    if days == 7:
        first -= timedelta(days=first.weekday())
    return _edges(first, until, zone, lambda wall: wall + timedelta(days=days))


def bucket_edges(since: datetime, until: datetime, zone: ZoneInfo) -> tuple[str, list[datetime]]:
    """Return the step and the edges of at most `MAX_BUCKETS` buckets that cover [since, until).

    The step is that of Report. Edges are multiples of 30 minutes or 3 hours, midnights, Mondays or starts of months in
    `zone`, also across DST changes.
    """
    length = _to_local(until, zone) - _to_local(since, zone)
    if length <= timedelta(days=1, hours=1):
        return "30min", _clock_edges(since, until, zone, timedelta(minutes=30))
    if length <= timedelta(days=7, hours=1):
        return "3h", _clock_edges(since, until, zone, timedelta(hours=3))
    if length <= timedelta(days=MAX_BUCKETS - 1):
        return "day", day_edges(since, until, zone)
    if length <= timedelta(weeks=MAX_BUCKETS - 1):
        return "week", day_edges(since, until, zone, 7)
    return "month", _month_edges(since, until, zone)


def _to_local(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return the naive local time: differences of naive times ignore DST."""
    return moment.astimezone(zone).replace(tzinfo=None)


def _midnight(moment: datetime, zone: ZoneInfo) -> datetime:
    return _to_local(moment, zone).replace(hour=0, minute=0, second=0, microsecond=0)


def _clock_edges(since: datetime, until: datetime, zone: ZoneInfo, step: timedelta) -> list[datetime]:
    midnight = _midnight(since, zone)
    first = midnight + step * ((_to_local(since, zone) - midnight) // step)
    edges = _edges(first, until, zone, lambda wall: wall + step)
    if step < timedelta(hours=1):
        second = (edge.replace(fold=1) for edge in edges)  # differs from the edge in an hour that DST repeats
        moments = sorted({edge.astimezone(UTC) for edge in (*edges, *second)})
        start = max((moment for moment in moments if moment <= since), default=moments[0])
        end = min(moment for moment in moments if moment >= until)
        edges = [moment.astimezone(zone) for moment in moments if start <= moment <= max(start, end)]
    return edges


def is_repeated(time: datetime) -> bool:
    """Return whether a local time occurs twice because DST ends."""
    return time.replace(fold=0).utcoffset() != time.replace(fold=1).utcoffset()


def _month_edges(since: datetime, until: datetime, zone: ZoneInfo) -> list[datetime]:
    first, last = _midnight(since, zone).replace(day=1), _to_local(until, zone)
    months_per_bucket = -(-((last.year - first.year) * 12 + last.month - first.month + 1) // (MAX_BUCKETS - 1))

    def following(wall: datetime) -> datetime:
        months = wall.month - 1 + months_per_bucket
        return wall.replace(year=wall.year + months // 12, month=months % 12 + 1)

    return _edges(first, until, zone, following)


def _edges(
    wall: datetime, until: datetime, zone: ZoneInfo, following: Callable[[datetime], datetime]
) -> list[datetime]:
    """Return the local times from `wall` up to the first one at or after `until`.

    `following` returns the next local time. A local time in a DST gap becomes a time after the gap (PEP 495). The
    result is ascending and has no duplicates.
    """
    moments = [wall.replace(tzinfo=zone).astimezone(UTC)]
    while moments[-1] < until:
        wall = following(wall)
        moment = wall.replace(tzinfo=zone).astimezone(UTC)
        if moment > moments[-1]:
            moments.append(moment)
    return [moment.astimezone(zone) for moment in moments]
