"""Labels and sentences of the results page and the page of an attempt."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from babel.numbers import format_percent

from project.contract.error_codes import reason_text, status_text
from project.domain.attempts import Outcome
from project.domain.reports import Report, rounded_shares
from project.http.translations import gettext, language_code, ngettext, pgettext
from project.presentation.formats import format_number, format_time, translations
from project.presentation.headings import days_label, outcome_names
from project.presentation.selection import Selection
from project.reports.charts import bucket_label
from project.reports.page_data import AnomalyNote


@dataclass(frozen=True, slots=True)
class Chip:
    """An active filter: its label, its value as text, and the query string without it."""

    name: str
    value: str
    query_string: str


def period_name(selection: Selection) -> str:
    """Return the name of the selected period, or the dates of a custom one."""
    names = dict(periods()) | {"all": gettext("All time")}
    return names.get(selection.period) or days_label(selection.filter.since, selection.filter.until, selection.now)


def periods() -> tuple[tuple[str, str], ...]:
    """Return the values of `period` that have buttons, and their labels."""
    return (
        ("today", gettext("Today")),
        ("yesterday", gettext("Yesterday")),
        ("7d", gettext("7 days")),
        ("last-week", gettext("Last week")),
        ("30d", gettext("30 days")),
        ("last-month", gettext("Last month")),
        ("this-month", gettext("This month")),
        ("all", pgettext("period", "All")),
    )


def lag_label(lag_s: float) -> str:
    """Describe the lag of a replica, which is given in seconds; infinity means unknown."""
    if math.isinf(lag_s):
        return gettext("from a replica, lag unknown")
    seconds = round(lag_s)
    return ngettext(
        "from a replica, %(shown)s second behind",
        "from a replica, %(shown)s seconds behind",
        seconds,
        shown=format_number(seconds),
    )


def filters_label(selection: Selection) -> str:
    """Describe the period and the active filters in one line."""
    values = (chip.value for chip in chips(selection) if chip.name != gettext("Period"))
    return " · ".join((period_name(selection), *values))


def chips(selection: Selection) -> Iterator[Chip]:
    """Yield the active filters.

    The period is included only if the reader entered its dates and they are not reversed.
    """
    if selection.period == "dates" and not selection.is_reversed:
        yield Chip(gettext("Period"), period_name(selection), selection.query_string(since=None, until=None))
    names = outcome_names()
    for value in selection.values.get("result", ()):
        yield Chip(gettext("Result"), names[Outcome(value)], selection.query_string_without("result", value))
    for value in selection.values.get("code", ()):
        yield Chip(gettext("Reason"), reason_text(value), selection.query_string_without("code", value))
    for value in selection.values.get("status", ()):
        yield Chip("HTTP", f"{value} {status_text(int(value))}", selection.query_string_without("status", value))
    texts = {"q": gettext("Search"), "address": gettext("Client address"), "client": gettext("Client")}
    for name, label in texts.items():
        if text := selection.first_value(name):
            yield Chip(label, text, selection.query_string(**{name: None}))


def parameter_name(name: str) -> str:
    """Return the label that the page shows for a query parameter, or its name if it has none."""
    names = {
        "period": gettext("Period"),
        "from": gettext("From"),
        "to": gettext("To"),
        "result": gettext("Result"),
        "code": gettext("Reason"),
        "status": "HTTP",
        "tz": gettext("Time zone"),
        "address": gettext("Client address"),
        "client": gettext("Client"),
    }
    return names.get(name, name)


def step_label(report: Report) -> str:
    """Return the label of the period that a column of the chart covers, such as `3 hours`."""
    first = report.series[0]
    months = (first.until.year - first.since.year) * 12 + first.until.month - first.since.month
    return {
        "30min": gettext("30 minutes"),
        "3h": gettext("3 hours"),
        "day": gettext("a day"),
        "week": gettext("a week"),
        "month": ngettext("%(num)s month", "%(num)s months", months),
    }[report.step]


def comparison_text(selection: Selection, report: Report, previous: int | None) -> str:
    """Compare the total with the previous period: `20% more than the week before`.

    `previous` is the number of attempts in the previous period. Returns "" if it is 0 or None, or if there is no such
    period.
    """
    if not previous or selection.previous_period is None:
        return ""
    since, until = selection.previous_period
    day, time = format_time(since, "EEEE"), f"{until:%H:%M}"
    before = {
        "today": gettext("yesterday (%(day)s) by %(time)s", day=day, time=time),
        "yesterday": gettext("the day before (%(day)s)", day=day),
        "7d": gettext("the previous 7 days"),
        "last-week": gettext("the week before"),
        "30d": gettext("the previous 30 days"),
        "last-month": gettext("the month before"),
        "this-month": gettext("last month by this time"),
    }[selection.period]
    change = round(100 * (report.total - previous) / previous)
    percent = format_percent(abs(change) / 100, locale=language_code())
    if change > 0:
        return gettext("%(percent)s more than %(before)s", percent=percent, before=before)
    if change < 0:
        return gettext("%(percent)s fewer than %(before)s", percent=percent, before=before)
    return gettext("as many as %(before)s", before=before)


def shares(report: Report) -> dict[Outcome, str]:
    """Return the percentage of each outcome as text.

    The percentages add up to 100 %, or are all 0 without attempts.
    """
    tenths = rounded_shares({outcome: report.count(outcome) for outcome in Outcome})
    return {outcome: translations().tenths(share) for outcome, share in tenths.items()}


def anomaly_text(note: AnomalyNote) -> str:
    """Return a sentence about an anomaly: its time, its size and its most frequent reason."""
    bucket, multiple, reason = note.anomaly.bucket, note.anomaly.multiple, reason_text(note.code)
    values = {"when": bucket_label(bucket), "count": format_number(bucket.rejected)}
    if multiple:
        many = ngettext(
            "%(when)s: %(num)s time as many rejections as usual: %(count)s",
            "%(when)s: %(num)s times as many rejections as usual: %(count)s",
            multiple,
            **values,
        )
    else:
        many = gettext("%(when)s: unusually many rejections: %(count)s", **values)
    if note.is_nearly_all:
        return gettext("%(many)s, almost all of them: “%(reason)s”.", many=many, reason=reason)
    return gettext("%(many)s, most often: “%(reason)s”.", many=many, reason=reason)
