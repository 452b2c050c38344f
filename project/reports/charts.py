"""The chart as numbers: where its columns stand, what they say, what they link to; and the column that stands out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import count, groupby
from statistics import median

from project.domain.reports import Bucket, Report
from project.http.translations import language_code
from project.presentation.formats import written
from project.presentation.selection import Selection

WIDTH, GAP = 10, 1.5
"""Units of the drawing that a column takes, and how much of it on each side stays empty."""
MAX_LABELS = 8
NICE = (1, 1.5, 2, 3, 4, 6)
FEW_COLUMNS = 12

STANDS_OUT_TIMES, STANDS_OUT_LEAST = 4, 20
"""A stretch of time stands out with this many times the usual share of rejections, and this many of them."""
ENOUGH_BUCKETS = 6
"""Fewer stretches with requests have no usual share."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One colour of a column, in units of the drawing: 0 is the top, 100 the base line."""

    kind: str
    y: str
    height: str


@dataclass(frozen=True, slots=True)
class Column:
    """One stretch of time."""

    bucket: Bucket
    x: float
    bars: tuple[Bar, ...]
    query: str
    times: str


@dataclass(frozen=True, slots=True)
class Label:
    """A word under the chart, at a percentage of its width."""

    x: str
    anchor: str
    weekday: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table that says the same in numbers."""

    name: str
    created: int
    rejected: int
    failed: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Chart:
    """All that the template prints."""

    columns: tuple[Column, ...]
    top: int
    labels: tuple[Label, ...]
    lines: tuple[Line, ...]

    @property
    def width(self) -> int:
        """Units of the drawing."""
        return len(self.columns) * WIDTH


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A stretch of time with far more rejections than usual."""

    bucket: Bucket
    times: int | None
    """How many times the usual number; None where the usual number is none."""


def draw(report: Report, selection: Selection) -> Chart:
    """Return the chart of a report that has attempts."""
    top = scale(max(bucket.total for bucket in report.series))
    columns = (_column(number, bucket, top, selection) for number, bucket in enumerate(report.series))
    return Chart(tuple(columns), top, tuple(_labels(report)), tuple(_lines(report)))


def scale(most: int) -> int:
    """Return the top of the scale: 1, 1.5, 2, 3, 4 or 6 times a power of ten, with a whole number half way."""
    for power in count(0):
        for step in NICE:
            top = step * 10**power
            if top >= most and top % 2 == 0:
                return int(top)
    raise AssertionError("unreachable: powers never end")


def _column(number: int, bucket: Bucket, top: int, selection: Selection) -> Column:
    # Failures stand on the base line, so that their heights can be compared.
    stack = (("down", bucket.failed), ("bad", bucket.rejected), ("ok", bucket.created), ("same", bucket.unchanged))
    bars, below = [], 0
    for kind, height in stack:
        if height:
            below += height
            bars.append(Bar(kind, f"{100 - 100 * below / top:.2f}", f"{100 * height / top:.2f}"))
    return Column(
        bucket, number * WIDTH, tuple(bars), selection.within(bucket.since, bucket.until), times_label(bucket)
    )


def times_label(bucket: Bucket) -> str:
    """Return `Tue, 17 November, 12:00–15:00`, for a day and more only the days."""
    since, until = bucket.since, bucket.until
    if since.time() == until.time() == datetime.min.time():
        last = until - timedelta(days=1)
        first = written(since, "ccc, d MMMM")
        return first if last.date() == since.date() else f"{first} – {written(last, 'ccc, d MMMM')}"
    return f"{written(since, 'ccc, d MMMM, HH:mm')}–{until:%H:%M}"


def _labels(report: Report) -> Iterator[Label]:
    total = len(report.series)
    for place in _places(report):
        since, share = report.series[place].since, place / total
        weekday, text = _label_text(report.step, since)
        yield Label(f"{100 * share:.2f}", "end" if share > 0.94 else "start", weekday, text)


def _places(report: Report) -> Sequence[int]:
    """Return the columns that have a label: midnights under hours, else every so many."""
    total = len(report.series)
    if report.step == "3h":
        midnights = [place for place, bucket in enumerate(report.series) if bucket.since.hour == 0]
        if len(midnights) > 1:
            return midnights
    if report.step == "30min" and total > FEW_COLUMNS:
        hours = 4 if total > 2 * FEW_COLUMNS else 2
        whole = (bucket.since.minute == 0 and bucket.since.hour % hours == 0 for bucket in report.series)
        return [place for place, is_whole in enumerate(whole) if is_whole]
    return range(0, total, -(-total // MAX_LABELS))


def _label_text(step: str, since: datetime) -> tuple[str, str]:
    match step:
        case "30min":
            return "", f"{since:%H:%M}"
        case "3h" if since.hour == 0:
            return written(since, "ccc, "), written(since, "d")
        case "3h":
            return written(since, "d MMM, "), f"{since:%H:%M}"
        case "month":
            return "", written(since, "LLL yyyy")
        case _:
            return "", written(since, "dd.MM" if language_code() == "ru" else "d MMM")


def _lines(report: Report) -> Iterator[Line]:
    """Yield a line a day; a single day goes by its columns, as do columns wider than a day."""
    days = {bucket.since.date() for bucket in report.series}
    if report.step not in {"30min", "3h"} or len(days) == 1:
        for bucket in report.series:
            yield _line(times_label(bucket), [bucket])
        return
    for day, buckets in groupby(report.series, key=lambda bucket: bucket.since.date()):
        yield _line(written(datetime.combine(day, time.min), "ccc, d MMMM"), buckets)


def _line(name: str, buckets: Iterable[Bucket]) -> Line:
    counts = [(bucket.created, bucket.rejected, bucket.failed, bucket.unchanged) for bucket in buckets]
    return Line(name, *map(sum, zip(*counts, strict=True)))


def find_anomaly(report: Report) -> Anomaly | None:
    """Return the stretch of time whose share of rejections is far from usual, None if there is none.

    Only without a filter on the result: among nothing but rejections, all shares are the same.
    """
    if report.attempt_filter.outcomes or report.attempt_filter.codes or report.attempt_filter.statuses:
        return None
    busy = [bucket for bucket in report.series if bucket.total]
    if len(busy) < ENOUGH_BUCKETS:
        return None
    usual = median(bucket.rejected / bucket.total for bucket in busy)
    strange = [
        bucket
        for bucket in busy
        if bucket.rejected >= STANDS_OUT_LEAST and bucket.rejected / bucket.total > STANDS_OUT_TIMES * usual
    ]
    if not strange:
        return None
    worst = max(strange, key=lambda bucket: bucket.rejected)
    usually = median(bucket.rejected for bucket in busy)
    times = round(worst.rejected / usually) if usually >= 1 else 0
    return Anomaly(worst, times if times > 1 else None)
