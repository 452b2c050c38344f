"""What was chosen, in the reader's words: for headings, chips above the numbers, first lines of files."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from babel.dates import format_datetime
from babel.numbers import format_percent

from project.domain.attempts import Outcome
from project.domain.reports import Report
from project.exporters.words import ABSENT, Heading
from project.reports.charts import times_words
from project.reports.pages import Remark
from project.reports.schemas import Choice
from project.web.catalogue import reason_text, status_text
from project.web.formats import number, zone_words
from project.web.texts import gettext, language_code, ngettext, pgettext


@dataclass(frozen=True, slots=True)
class Chip:
    """One filter that is on, and the query without it."""

    name: str
    value: str
    without: str


def period_name(choice: Choice) -> str:
    """Return the chosen period as the buttons have it; chosen days in full."""
    names = {
        "today": gettext("Today"),
        "7d": gettext("7 days"),
        "30d": gettext("30 days"),
        "all": gettext("All time"),
    }
    return names.get(choice.period) or days_words(choice.filter.since, choice.filter.until, choice.now)


def period_words(choice: Choice, report: Report | None) -> str:
    """Return the days that are shown: `17–23 November 2026`."""
    if choice.filter.since is None and choice.filter.until is None:
        if report is None or report.since is None:
            return gettext("all time")
        since = _day(report.since.astimezone(choice.zone))
        return gettext("all time, since %(day)s", day=since)
    return days_words(choice.filter.since, choice.filter.until, choice.now)


def days_words(since: datetime | None, until: datetime | None, now: datetime) -> str:
    """Return a stretch of time in the zone of `now`; what has no end ends now."""
    if since is None:
        last = _last(until or now, now)
        return gettext("until %(day)s", day=_moment_words(last, with_year=True))
    since, last = since.astimezone(now.tzinfo), _last(until or now, now)
    if _is_midnight(since) and (until is None or _is_midnight(until.astimezone(now.tzinfo))):
        return _stretch_of_days(since, last if until is None else last - timedelta(days=1))
    if since.date() == last.date():
        return f"{_moment_words(since, with_year=True)}–{last:%H:%M}"
    same_year = since.year == last.year
    return f"{_moment_words(since, with_year=not same_year)} – {_moment_words(last, with_year=True)}"


def _day(when: datetime, pattern: str = "d MMMM y") -> str:
    return str(format_datetime(when, pattern, locale=language_code()))


def _last(until: datetime, now: datetime) -> datetime:
    return until.astimezone(now.tzinfo)


def _is_midnight(when: datetime) -> bool:
    return when.time() == datetime.min.time()


def _stretch_of_days(first: datetime, last: datetime) -> str:
    end = _day(last)
    if first.date() >= last.date():
        return end
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}–{end}"
    start = _day(first, "d MMMM" if first.year == last.year else "d MMMM y")
    return f"{start} – {end}"


def _moment_words(when: datetime, *, with_year: bool) -> str:
    return _day(when, "d MMMM y, HH:mm" if with_year else "d MMMM, HH:mm")


def outcome_names() -> dict[Outcome, str]:
    """Return what the outcomes are called where one chooses among them."""
    return {
        Outcome.CREATED: gettext("Created"),
        Outcome.REJECTED: gettext("Rejected"),
        Outcome.FAILED: gettext("Failures"),
        Outcome.UNCHANGED: gettext("No user created"),
    }


def chips(choice: Choice) -> Iterator[Chip]:
    """Yield the filters that are on, the period only where no button shows it."""
    if choice.period == "dates" and not choice.is_reversed:
        yield Chip(gettext("Period"), period_name(choice), choice.query(since=None, until=None))
    names = outcome_names()
    for value in choice.values.get("result", ()):
        yield Chip(gettext("Result"), names[Outcome(value)], choice.without("result", value))
    for value in choice.values.get("code", ()):
        yield Chip(gettext("Reason"), reason_text(value), choice.without("code", value))
    for value in choice.values.get("status", ()):
        yield Chip("HTTP", f"{value} {status_text(int(value))}", choice.without("status", value))
    if text := choice.first("q"):
        yield Chip(gettext("Search"), text, choice.query(q=None))


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


def step_words(report: Report) -> str:
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


def heading(choice: Choice, report: Report, reader: str, now: datetime) -> Heading:
    """Return what stands on top of a file: a print on a desk must tell what it shows."""
    names = outcome_names()
    outcomes = ", ".join(names[outcome] for outcome in Outcome if outcome in choice.filter.outcomes)
    codes = ", ".join(reason_text(code) for code in sorted(choice.filter.codes))
    filters = [
        (gettext("Result"), outcomes or pgettext("result", "any")),
        (gettext("Reason"), codes or pgettext("reason", "any")),
    ]
    if choice.filter.statuses:
        filters.append((gettext("Status"), ", ".join(map(str, sorted(choice.filter.statuses)))))
    filters.append((gettext("Search"), choice.filter.text or ABSENT))
    return Heading(
        period=period_words(choice, report),
        zone=zone_words(choice.zone),
        filters=tuple(filters),
        exported_by=reader,
        exported_at=now,
    )


def comparison_words(choice: Choice, report: Report, previous: int | None) -> str:
    """Return how the number of requests compares with that of the period before; "" where nothing is known of it."""
    before = {
        "today": gettext("yesterday by this time"),
        "7d": gettext("the previous 7 days"),
        "30d": gettext("the previous 30 days"),
    }
    if not previous or choice.period not in before:
        return ""
    change = round(100 * (report.total - previous) / previous)
    percent = format_percent(abs(change) / 100, locale=language_code())
    if change > 0:
        return gettext("%(percent)s more than %(before)s", percent=percent, before=before[choice.period])
    if change < 0:
        return gettext("%(percent)s fewer than %(before)s", percent=percent, before=before[choice.period])
    return gettext("as many as %(before)s", before=before[choice.period])


def remark_words(remark: Remark) -> str:
    """Return the sentence about the time that stands out."""
    when, count = times_words(remark.anomaly.bucket), number(remark.anomaly.bucket.rejected)
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
