"""Numbers about attempts: what the page shows, the API answers and the files begin with."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from project.domain.attempts import AttemptFilter, Outcome

MAX_BUCKETS = 60


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
    """Half, 95 % and 99 % of the answers took no longer than this, in milliseconds."""

    p50: int
    p95: int
    p99: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All numbers about the attempts that a filter chooses."""

    chosen: AttemptFilter
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

    def count(self, outcome: Outcome) -> int:
        """Return how many attempts had this outcome."""
        return sum(row.count for row in self.by_status if Outcome.of(row.status) is outcome)

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
    def reasons(self) -> tuple[CodeCount, ...]:
        """Why users were not created, the most frequent first."""
        return tuple(row for row in self.by_code if Outcome.of(row.status) in (Outcome.REJECTED, Outcome.FAILED))


def day_edges(since: datetime, until: datetime, zone: ZoneInfo) -> list[datetime]:
    """Return the midnights of the shown zone around [since, until)."""
    return _day_edges(since, until, zone, 1)


def bucket_edges(since: datetime, until: datetime, zone: ZoneInfo) -> tuple[str, list[datetime]]:
    """Return the step's name and the edges of at most `MAX_BUCKETS` buckets that cover [since, until).

    Edges fall on whole half hours, hours, days, Mondays or months of the shown zone, also across a change of clocks.
    """
    length = until - since
    if length <= timedelta(days=1, hours=1):
        return "30min", _clock_edges(since, until, zone, timedelta(minutes=30))
    if length <= timedelta(days=7, hours=1):
        return "3h", _clock_edges(since, until, zone, timedelta(hours=3))
    if length <= timedelta(days=MAX_BUCKETS - 1):
        return "day", _day_edges(since, until, zone, 1)
    if length <= timedelta(weeks=MAX_BUCKETS - 1):
        return "week", _day_edges(since, until, zone, 7)
    return "month", _month_edges(since, until, zone)


def _clock_edges(since: datetime, until: datetime, zone: ZoneInfo, step: timedelta) -> list[datetime]:
    midnight = since.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    edges = [midnight + step * ((since.astimezone(zone).replace(tzinfo=None) - midnight.replace(tzinfo=None)) // step)]
    while edges[-1] < until:
        edges.append(edges[-1] + step)  # wall clock arithmetic: zoneinfo keeps the local time whole
    return edges


def _day_edges(since: datetime, until: datetime, zone: ZoneInfo, days: int) -> list[datetime]:
    start = since.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    if days == 7:
        start -= timedelta(days=start.weekday())
    edges = [start]
    while edges[-1] < until:
        edges.append(edges[-1] + timedelta(days=days))
    return edges


def _month_edges(since: datetime, until: datetime, zone: ZoneInfo) -> list[datetime]:
    local = since.astimezone(zone)
    months = (until.year - local.year) * 12 + until.month - local.month + 1
    every = -(-months // (MAX_BUCKETS - 1))
    edges = [local.replace(day=1, hour=0, minute=0, second=0, microsecond=0)]
    while edges[-1] < until:
        months = edges[-1].month - 1 + every
        edges.append(edges[-1].replace(year=edges[-1].year + months // 12, month=months % 12 + 1))
    return edges
