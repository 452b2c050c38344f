"""What was chosen, in the reader's words, as pages and the first lines of files have it."""

from datetime import datetime, timedelta

from project.contract.error_codes import reason_text
from project.domain.attempts import Outcome
from project.domain.reports import Report
from project.exporters.translations import ABSENT, Heading
from project.http.translations import gettext, pgettext
from project.presentation.formats import DAY, written, zone_label
from project.presentation.selection import Selection


def period_label(selection: Selection, report: Report | None) -> str:
    """Return the days that are shown: `17–23 November 2026`."""
    if selection.filter.since is None and selection.filter.until is None:
        if report is None or report.since is None:
            return gettext("all time")
        since = written(report.since.astimezone(selection.zone), DAY)
        return gettext("all time, since %(day)s", day=since)
    return days_label(selection.filter.since, selection.filter.until, selection.now)


def days_label(since: datetime | None, until: datetime | None, now: datetime) -> str:
    """Return a stretch of time in the zone of `now`; what has no end ends now."""
    if since is None:
        last = _last(until or now, now)
        return gettext("until %(day)s", day=_moment_label(last, with_year=True))
    since, last = since.astimezone(now.tzinfo), _last(until or now, now)
    if _is_midnight(since) and (until is None or _is_midnight(until.astimezone(now.tzinfo))):
        return _stretch_of_days(since, last if until is None else last - timedelta(days=1))
    if since.date() == last.date():
        return f"{_moment_label(since, with_year=True)}–{last:%H:%M}"
    same_year = since.year == last.year
    return f"{_moment_label(since, with_year=not same_year)} – {_moment_label(last, with_year=True)}"


def _last(until: datetime, now: datetime) -> datetime:
    return until.astimezone(now.tzinfo)


def _is_midnight(when: datetime) -> bool:
    return when.time() == datetime.min.time()


def _stretch_of_days(first: datetime, last: datetime) -> str:
    end = written(last, DAY)
    if first.date() >= last.date():
        return end
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}–{end}"
    start = written(first, "d MMMM" if first.year == last.year else DAY)
    return f"{start} – {end}"


def _moment_label(when: datetime, *, with_year: bool) -> str:
    return written(when, f"{DAY}, HH:mm" if with_year else "d MMMM, HH:mm")


def outcome_names() -> dict[Outcome, str]:
    """Return what the outcomes are called where one chooses among them."""
    return {
        Outcome.CREATED: gettext("Created"),
        Outcome.REJECTED: gettext("Rejected"),
        Outcome.FAILED: gettext("Failures"),
        Outcome.UNCHANGED: gettext("No user created"),
    }


def heading(selection: Selection, report: Report, reader: str, now: datetime) -> Heading:
    """Return what stands on top of a file: a print on a desk must tell what it shows."""
    names = outcome_names()
    outcomes = ", ".join(names[outcome] for outcome in Outcome if outcome in selection.filter.outcomes)
    codes = ", ".join(reason_text(code) for code in sorted(selection.filter.codes))
    filters = [
        (gettext("Result"), outcomes or pgettext("result", "any")),
        (gettext("Reason"), codes or pgettext("reason", "any")),
    ]
    if selection.filter.statuses:
        filters.append((gettext("Status"), ", ".join(map(str, sorted(selection.filter.statuses)))))
    filters.append((gettext("Search"), selection.filter.text or ABSENT))
    client = (
        (gettext("Client's address"), selection.filter.client_address),
        (gettext("Client"), selection.filter.client_program),
    )
    filters += [(name, value) for name, value in client if value]
    return Heading(
        period=period_label(selection, report),
        zone=zone_label(selection.zone),
        filters=tuple(filters),
        exported_by=reader,
        exported_at=now,
    )
