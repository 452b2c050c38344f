"""Builds the chart of attempts over time and detects anomalies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import count, groupby
from statistics import median

from project.domain.reports import Bucket, Report, is_repeated
from project.http.translations import language_code
from project.presentation.formats import format_time, offset_label
from project.presentation.selection import Selection

WIDTH, GAP = 10, 1.5
"""Width of a column and of the gap on each side of it, in units of the SVG drawing."""
MAX_LABELS = 8
STEPS = (1, 1.5, 2, 3, 4, 6)
"""Factors of a power of ten that may be the top of the scale."""
FEW_COLUMNS = 12
"""Number of half-hour columns above which only round hours have a label."""
MIN_COLUMNS = 3
"""Minimum number of three-hour columns of a day that has a label, because the label is as wide as three columns."""

ANOMALY_FACTOR, ANOMALY_MIN_REJECTED = 4, 20
"""In an anomaly, the share of rejections exceeds this multiple of the median, and there are at least this many."""
MIN_BUCKETS = 6
"""Minimum number of buckets with attempts to detect anomalies: the median of fewer buckets is meaningless."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A coloured part of a column. Its coordinates range from 0 (top) to 100 (base line)."""

    css_class: str
    y: str
    """Upper edge."""
    height: str


@dataclass(frozen=True, slots=True)
class Column:
    """A stacked column of the chart, which represents the attempts in a bucket of time."""

    bucket: Bucket
    x: float
    bars: tuple[Bar, ...]
    query: str
    """Query string of the results page that selects the period of the bucket."""
    period: str
    """The period of the bucket as text."""
    is_running: bool
    """Whether the bucket has not ended yet."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label of the time axis. It is centred at `x`, and its columns begin at `start`.

    Both are percentages of the width of the chart.
    """

    x: str
    start: str
    weekday: str
    text: str


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of the table beside the chart: numbers of attempts in a period, by outcome."""

    name: str
    is_running: bool
    created: int
    rejected: int
    failed: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Chart:
    """The chart of attempts over time, and the table with the same numbers."""

    columns: tuple[Column, ...]
    top: int
    """Number of attempts at the top of the scale."""
    labels: tuple[Label, ...]
    table_rows: tuple[TableRow, ...]

    @property
    def width(self) -> int:
        """Width of the chart in units of the SVG drawing."""
        return len(self.columns) * WIDTH

    @property
    def is_running(self) -> bool:
        """Whether the chart shows a bucket that has not ended yet."""
        return any(column.is_running and column.bars for column in self.columns)


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A bucket of time with an unusually high share of rejections."""

    bucket: Bucket
    multiple: int | None
    """Rejections as a multiple of the median of all buckets with attempts; None if that is less than 2."""


def build_chart(report: Report, selection: Selection) -> Chart:
    """Build the chart of a report that has attempts."""
    top = round_up(max(bucket.total for bucket in report.series))
    columns = (_column(index, bucket, top, selection) for index, bucket in enumerate(report.series))
    return Chart(tuple(columns), top, tuple(_labels(report)), tuple(_table_rows(report, selection)))


def round_up(highest: int) -> int:
    """Return the lowest even number >= `highest` that is one of STEPS times a power of ten."""
    tops = (step * 10**power for power in count(0) for step in STEPS)
    return int(next(top for top in tops if top >= highest and top % 2 == 0))


def _column(index: int, bucket: Bucket, top: int, selection: Selection) -> Column:
    # Failures are at the base line, where heights are comparable.
    stack = (("down", bucket.failed), ("bad", bucket.rejected), ("ok", bucket.created), ("same", bucket.unchanged))
    bars, total = [], 0
    for css_class, number in stack:
        if number:
            total += number
            bars.append(Bar(css_class, f"{100 - 100 * total / top:.2f}", f"{100 * number / top:.2f}"))
    query = selection.query_within(bucket.since, bucket.until)
    is_running = _is_running(bucket, selection)
    return Column(bucket, index * WIDTH, tuple(bars), query, bucket_label(bucket), is_running)


def _is_running(bucket: Bucket, selection: Selection) -> bool:
    is_open = selection.filter.until is None or selection.filter.until > selection.now
    return is_open and bucket.since <= selection.now < bucket.until


def bucket_label(bucket: Bucket) -> str:
    """Format the period of a bucket: `Tue, 17 November, 12:00–15:00`. Whole days have no times."""
    since, until = bucket.since, bucket.until
    if since.time() == until.time() == datetime.min.time():
        last = until - timedelta(days=1)
        first = format_time(since, "ccc, d MMMM")
        return first if last.date() == since.date() else f"{first} – {format_time(last, 'ccc, d MMMM')}"
    times = f"{format_time(since, 'ccc, d MMMM, HH:mm')}–{until:%H:%M}"
    return f"{times} ({offset_label(since)})" if is_repeated(since) else times


def _labels(report: Report) -> Iterator[Label]:
    total = len(report.series)
    indices = list(_labelled_columns(report))
    for index, following in zip(indices, [*indices[1:], total], strict=True):
        since = report.series[index].since
        # The label of a day stands below all of its columns.
        columns = following - index if report.step == "3h" and since.hour == 0 else 1
        if columns < min(MIN_COLUMNS, total) and report.step == "3h" and since.hour == 0:
            continue
        weekday, text = _label_text(report.step, since)
        yield Label(f"{100 * (index + columns / 2) / total:.2f}", f"{100 * index / total:.2f}", weekday, text)


def _labelled_columns(report: Report) -> Sequence[int]:
    """Return the indices of the columns to label: midnights, round hours or evenly spaced."""
    total = len(report.series)
    if report.step == "3h":
        midnights = [index for index, bucket in enumerate(report.series) if bucket.since.hour == 0]
        if len(midnights) > 1:
            return midnights
    if report.step == "30min" and total > FEW_COLUMNS:
        hours = 4 if total > 2 * FEW_COLUMNS else 2
        starts = [(bucket.since.minute, bucket.since.hour % hours) for bucket in report.series]
        return [index for index, start in enumerate(starts) if start == (0, 0)]
    return range(0, total, -(-total // MAX_LABELS))


def _label_text(step: str, since: datetime) -> tuple[str, str]:
    match step:
        case "30min":
            return "", f"{since:%H:%M}"
        case "3h" if since.hour == 0:
            return format_time(since, "ccc, "), format_time(since, "d")
        case "3h":
            return format_time(since, "d MMM, "), f"{since:%H:%M}"
        case "month":
            return "", format_time(since, "LLL yyyy")
        case _:
            return "", format_time(since, "dd.MM" if language_code() == "ru" else "d MMM")


def _table_rows(report: Report, selection: Selection) -> Iterator[TableRow]:
    """Yield a row per day, or per column if the report covers one day or columns are longer."""
    days = {bucket.since.date() for bucket in report.series}
    if report.step not in {"30min", "3h"} or len(days) == 1:
        for bucket in report.series:
            yield _table_row(bucket_label(bucket), [bucket], selection)
        return
    for day, buckets in groupby(report.series, key=lambda bucket: bucket.since.date()):
        yield _table_row(format_time(datetime.combine(day, time.min), "ccc, d MMMM"), list(buckets), selection)


def _table_row(name: str, buckets: Sequence[Bucket], selection: Selection) -> TableRow:
    counts = [(bucket.created, bucket.rejected, bucket.failed, bucket.unchanged) for bucket in buckets]
    is_running = any(_is_running(bucket, selection) for bucket in buckets)
    return TableRow(name, is_running, *map(sum, zip(*counts, strict=True)))


def find_anomaly(report: Report) -> Anomaly | None:
    """Return the bucket with the most rejections among those with an unusual share, or None.

    If the report is filtered by outcome, code or status, returns None, because shares are meaningless then.
    """
    if report.attempt_filter.outcomes or report.attempt_filter.codes or report.attempt_filter.statuses:
        return None
    busy = [bucket for bucket in report.series if bucket.total]
    if len(busy) < MIN_BUCKETS:
        return None
    limit = ANOMALY_FACTOR * median(bucket.rejected / bucket.total for bucket in busy)
    unusual = [bucket for bucket in busy if bucket.rejected / bucket.total > limit]
    worst = max(unusual, key=lambda bucket: bucket.rejected, default=None)
    if worst is None or worst.rejected < ANOMALY_MIN_REJECTED:
        return None
    usual = median(bucket.rejected for bucket in busy)
    multiple = round(worst.rejected / usual) if usual >= 1 else 0
    return Anomaly(worst, multiple if multiple > 1 else None)
