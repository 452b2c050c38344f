"""Texts that describe a selection on pages and in the first lines of files."""

from datetime import datetime, timedelta

from project.contract.error_codes import reason_text
from project.domain.attempts import Outcome
from project.domain.reports import Report
from project.exporters.translations import ABSENT, Heading
from project.http.translations import gettext, pgettext
from project.presentation.formats import DAY_PATTERN, format_time, zone_label
from project.presentation.selection import Selection


def period_label(selection: Selection, report: Report | None) -> str:
    """Describe the period of a selection: `17–23 November 2026`.

    For all time, the text contains the day of the first attempt, unless `report` is None or has no attempts.
    """
    if selection.filter.since is None and selection.filter.until is None:
        if report is None or report.since is None:
            return gettext("all time")
        since = format_time(report.since.astimezone(selection.zone), DAY_PATTERN)
        return gettext("all time, since %(day)s", day=since)
    return days_label(selection.filter.since, selection.filter.until, selection.now)


def days_label(since: datetime | None, until: datetime | None, now: datetime) -> str:
    """Describe the period [since, until) in the time zone of `now`.

    `since` None means no start, `until` None means `now`.
    """
    end = (until or now).astimezone(now.tzinfo)
    if since is None:
        return gettext("until %(day)s", day=_time_label(end, with_year=True))
    since = since.astimezone(now.tzinfo)
    if _is_midnight(since) and (until is None or _is_midnight(end)):
        return _days_range(since, end if until is None else end - timedelta(days=1))
    if since.date() == end.date():
        return f"{_time_label(since, with_year=True)}–{end:%H:%M}"
    return f"{_time_label(since, with_year=since.year != end.year)} – {_time_label(end, with_year=True)}"


def _is_midnight(time: datetime) -> bool:
    return time.time() == datetime.min.time()


def _days_range(first: datetime, last: datetime) -> str:
    end = format_time(last, DAY_PATTERN)
    if first.date() >= last.date():
        return end
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}–{end}"
    return f"{format_time(first, 'd MMMM' if first.year == last.year else DAY_PATTERN)} – {end}"


def _time_label(time: datetime, *, with_year: bool) -> str:
    return format_time(time, f"{DAY_PATTERN}, HH:mm" if with_year else "d MMMM, HH:mm")


def outcome_names() -> dict[Outcome, str]:
    """Return the translated names of outcomes for filters."""
    return {
        Outcome.CREATED: gettext("Created"),
        Outcome.REJECTED: gettext("Rejected"),
        Outcome.FAILED: gettext("Failures"),
        Outcome.UNCHANGED: gettext("No user created"),
    }


def file_heading(selection: Selection, report: Report, exported_by: str, now: datetime) -> Heading:
    """Return the heading of a file: the selection, and who exported the file when."""
    names = outcome_names()
    outcomes = ", ".join(names[outcome] for outcome in Outcome if outcome in selection.filter.outcomes)
    codes = ", ".join(reason_text(code) for code in sorted(selection.filter.codes))
    statuses = ", ".join(map(str, sorted(selection.filter.statuses)))
    filters = [
        (gettext("Result"), outcomes or pgettext("result", "any")),
        (gettext("Reason"), codes or pgettext("reason", "any")),
    ]
    if statuses:
        filters.append((gettext("Status"), statuses))
    filters.append((gettext("Search"), selection.filter.text or ABSENT))
    client = (
        (gettext("Client address"), selection.filter.client_address),
        (gettext("Client"), selection.filter.client_program),
    )
    filters += [(name, value) for name, value in client if value]
    searches = (selection.filter.text, selection.filter.client_address, selection.filter.client_program)
    selected = (outcomes.lower(), codes, statuses, *(f"“{text}”" for text in searches if text))
    return Heading(
        period=period_label(selection, report),
        zone=zone_label(selection.zone),
        filters=tuple(filters),
        selected=", ".join(filter(None, selected)),
        exported_by=exported_by,
        exported_at=now,
    )
