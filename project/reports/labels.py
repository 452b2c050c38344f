"""What was chosen, in the reader's words: for headings, chips above the numbers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from babel.numbers import format_percent

from project.contract.error_codes import reason_text, status_text
from project.domain.attempts import Outcome
from project.domain.reports import Report
from project.http.translations import gettext, language_code, ngettext
from project.presentation.formats import number
from project.presentation.headings import days_label, outcome_names
from project.presentation.selection import Selection
from project.reports.charts import times_label
from project.reports.page_data import Remark


@dataclass(frozen=True, slots=True)
class Chip:
    """One filter that is on, and the query without it."""

    name: str
    value: str
    without: str


def period_name(selection: Selection) -> str:
    """Return the chosen period as the buttons have it; chosen days in full."""
    names = {
        "today": gettext("Today"),
        "7d": gettext("7 days"),
        "30d": gettext("30 days"),
        "all": gettext("All time"),
    }
    return names.get(selection.period) or days_label(selection.filter.since, selection.filter.until, selection.now)


def lag_label(lag_s: float) -> str:
    """Return how far behind a replica is, in seconds; infinite when nobody knows."""
    if math.isinf(lag_s):
        return gettext("from a replica, nobody knows how far behind")
    seconds = round(lag_s)
    return ngettext(
        "from a replica, %(shown)s second behind",
        "from a replica, %(shown)s seconds behind",
        seconds,
        shown=number(seconds),
    )


def chips(selection: Selection) -> Iterator[Chip]:
    """Yield the filters that are on, the period only where no button shows it."""
    if selection.period == "dates" and not selection.is_reversed:
        yield Chip(gettext("Period"), period_name(selection), selection.query(since=None, until=None))
    names = outcome_names()
    for value in selection.values.get("result", ()):
        yield Chip(gettext("Result"), names[Outcome(value)], selection.without("result", value))
    for value in selection.values.get("code", ()):
        yield Chip(gettext("Reason"), reason_text(value), selection.without("code", value))
    for value in selection.values.get("status", ()):
        yield Chip("HTTP", f"{value} {status_text(int(value))}", selection.without("status", value))
    texts = {"q": gettext("Search"), "address": gettext("Client's address"), "client": gettext("Client")}
    for name, label in texts.items():
        if text := selection.first(name):
            yield Chip(label, text, selection.query(**{name: None}))


def parameter_name(name: str) -> str:
    """Return what a parameter of the URL is called on the page."""
    names = {
        "period": gettext("Period"),
        "from": gettext("From"),
        "to": gettext("To"),
        "result": gettext("Result"),
        "code": gettext("Reason"),
        "status": "HTTP",
        "tz": gettext("Time zone"),
    }
    return names.get(name, name)


def step_label(report: Report) -> str:
    """Return the width of a column."""
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
    """Return how the number of requests compares with that of the period before; "" where nothing is known of it."""
    before = {
        "today": gettext("yesterday by this time"),
        "7d": gettext("the previous 7 days"),
        "30d": gettext("the previous 30 days"),
    }
    if not previous or selection.period not in before:
        return ""
    change = round(100 * (report.total - previous) / previous)
    percent = format_percent(abs(change) / 100, locale=language_code())
    if change > 0:
        return gettext("%(percent)s more than %(before)s", percent=percent, before=before[selection.period])
    if change < 0:
        return gettext("%(percent)s fewer than %(before)s", percent=percent, before=before[selection.period])
    return gettext("as many as %(before)s", before=before[selection.period])


def remark_text(remark: Remark) -> str:
    """Return the sentence about the time that stands out."""
    when, count = times_label(remark.anomaly.bucket), number(remark.anomaly.bucket.rejected)
    reason = reason_text(remark.code)
    if remark.anomaly.times:
        many = ngettext(
            "%(when)s: rejections were %(num)s time as many as usual: %(count)s",
            "%(when)s: rejections were %(num)s times as many as usual: %(count)s",
            remark.anomaly.times,
            when=when,
            count=count,
        )
    else:
        many = gettext("%(when)s: unusually many rejections: %(count)s", when=when, count=count)
    if remark.is_nearly_all:
        return gettext("%(many)s, almost all of them: “%(reason)s”.", many=many, reason=reason)
    return gettext("%(many)s, most often: “%(reason)s”.", many=many, reason=reason)
