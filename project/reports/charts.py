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

COLUMN_WIDTH = 10
"""Width of a column with the gaps beside it, in units of the SVG drawing."""
MAX_LABELS = 8
"""Maximum number of evenly spaced labels below the chart."""
SCALE_STEPS = (1, 1.5, 2, 3, 4, 6)
"""The number at the top of the scale is a factor of SCALE_STEPS times a power of ten."""
FEW_COLUMNS = 12
"""Number of half-hour columns above which only every second hour has a label; above twice as many, every fourth."""
MIN_COLUMNS = 3
"""Minimum number of three-hour columns of a day that has a label, because the label is as wide as three columns."""

ANOMALY_FACTOR, ANOMALY_MIN_REJECTED = 4, 20
"""A bucket is an anomaly if its share of rejections exceeds ANOMALY_FACTOR times the median, and it has at least
ANOMALY_MIN_REJECTED rejections."""
MIN_BUCKETS = 6
"""Minimum number of buckets with attempts to detect anomalies: the median of fewer buckets is meaningless."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A coloured part of a column: the attempts of an outcome. The chart is 100 units high."""

    css_class: str
    y: str
    """Distance of the upper edge from the top of the chart."""
    height: str


@dataclass(frozen=True, slots=True)
class ChartColumn:
    """A stacked column of the chart: the attempts in a bucket, an interval of time."""

    bucket: Bucket
    x: float
    """Position of the left edge in units of the SVG drawing."""
    bars: tuple[Bar, ...]
    query_string: str
    """Query string of the results page that selects the period of the bucket."""
    period: str
    """The period of the bucket as text."""
    is_running: bool
    """Whether the bucket has begun and not ended, and the selected period is open."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label of the time axis, centred at `x`; the columns that it labels begin at `start`.

    `x` and `start` are percentages of the width of the chart.
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

    columns: tuple[ChartColumn, ...]
    top: int
    """Number of attempts at the top of the scale."""
    labels: tuple[Label, ...]
    table_rows: tuple[TableRow, ...]

    @property
    def width(self) -> int:
        """Width of the chart in units of the SVG drawing."""
        return len(self.columns) * COLUMN_WIDTH

    @property
    def is_running(self) -> bool:
        """Whether the chart shows a bucket that has attempts and has not ended yet."""
        return any(column.is_running and column.bars for column in self.columns)


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A bucket of time with an unusually high share of rejections."""

    bucket: Bucket
    multiple: int | None
    """Rejections as a rounded multiple of the median of all buckets with attempts; None if that is less than 2, or the
    median less than 1."""


def build_chart(report: Report, selection: Selection) -> Chart:
    """Build the chart of a report that has attempts."""
    top = find_scale_top(max(bucket.total for bucket in report.series))
    columns = (_column(index, bucket, top, selection) for index, bucket in enumerate(report.series))
    return Chart(tuple(columns), top, tuple(_labels(report)), tuple(_table_rows(report, selection)))


def find_scale_top(highest: int) -> int:
    """Return the lowest even number >= `highest` that may be at the top of the scale."""
    tops = (step * 10**power for power in count(0) for step in SCALE_STEPS)
    return int(next(top for top in tops if top >= highest and top % 2 == 0))


def _column(index: int, bucket: Bucket, top: int, selection: Selection) -> ChartColumn:
    # Failures are at the base line, where heights are comparable.
    stack = (("down", bucket.failed), ("bad", bucket.rejected), ("ok", bucket.created), ("same", bucket.unchanged))
    bars, total = [], 0
    for css_class, number in stack:
        if number:
            total += number
            bars.append(Bar(css_class, f"{100 - 100 * total / top:.2f}", f"{100 * number / top:.2f}"))
    query_string = selection.query_string_within(bucket.since, bucket.until)
    is_running = _is_running(bucket, selection)
    return ChartColumn(bucket, index * COLUMN_WIDTH, tuple(bars), query_string, bucket_label(bucket), is_running)


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
    """Return the indices of the columns to label: midnights, some full hours, or evenly spaced."""
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
    """Return the anomaly with the most rejections, or None.

    Returns None, too, if the report is filtered by outcome, code or status: shares of rejections are meaningless then.
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
