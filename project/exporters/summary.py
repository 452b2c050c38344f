"""Content that the .txt and .xlsx files share: heading, totals, table headers."""

from project.domain.attempts import Outcome
from project.domain.reports import Bucket, Report
from project.exporters.translations import Heading, Translations


def file_title(heading: Heading, translations: Translations) -> str:
    """Return the title of a file: `Requests to create users`, and the values of filters."""
    _ = translations.gettext
    return ": ".join(filter(None, (_("Requests to create users"), heading.selected)))


def heading_lines(heading: Heading, report: Report, translations: Translations) -> list[tuple[str, str]]:
    """Return pairs of name and value: period, filters, reader and time of the export."""
    _ = translations.gettext
    return [
        (_("Period"), f"{heading.period}, {heading.zone}"),
        *heading.filters,
        (_("Exported"), f"{translations.moment(heading.exported_at, report.zone)}, {heading.exported_by}"),
    ]


def shown_outcomes(report: Report) -> tuple[Outcome, ...]:
    """Return the outcomes to show: `unchanged` only if there are such attempts."""
    return tuple(outcome for outcome in Outcome if outcome is not Outcome.UNCHANGED or report.unchanged)


def totals(report: Report, translations: Translations) -> list[tuple[str, int]]:
    """Return pairs of name and count: first all attempts, then each outcome."""
    _ = translations.gettext
    names = {
        Outcome.CREATED: _("Users created"),
        Outcome.REJECTED: _("Rejected (4xx)"),
        Outcome.FAILED: _("Service failures (5xx)"),
        Outcome.UNCHANGED: _("No user created (dry runs and repeats)"),
    }
    counts = [(names[outcome], report.count(outcome)) for outcome in shown_outcomes(report)]
    return [(_("All requests"), report.total), *counts]


def percentiles(report: Report, translations: Translations) -> list[tuple[str, int]]:
    """Return names and values of percentiles of response times, in ms; none without attempts."""
    _ = translations.gettext
    if report.durations is None:
        return []
    return [
        (_("Median, ms"), report.durations.p50),
        (_("95th percentile, ms"), report.durations.p95),
        (_("99th percentile, ms"), report.durations.p99),
    ]


def day_headers(report: Report, translations: Translations) -> list[str]:
    """Return the column headers of the table by day."""
    _ = translations.gettext
    labels = (_("Created"), _("Rejected"), _("Failures"), _("No user created"))
    names = dict(zip(Outcome, labels, strict=True))
    return [_("Day"), _("Weekday"), _("Total"), *(names[outcome] for outcome in shown_outcomes(report))]


def day_counts(report: Report, day: Bucket) -> list[int]:
    """Return the counts of a day in the column order of day_headers()."""
    return [day.total, *(getattr(day, outcome) for outcome in shown_outcomes(report))]


def all_days_counts(report: Report) -> list[int]:
    """Return the counts of all days together in the column order of day_headers()."""
    return [sum(counts) for counts in zip(*(day_counts(report, day) for day in report.series), strict=True)]


def attempt_headers(translations: Translations) -> list[str]:
    """Return the column headers of the table of attempts."""
    _ = translations.gettext
    return [
        _("Time"),
        _("Result"),
        "HTTP",
        _("Code"),
        _("Reason"),
        _("Login"),
        _("Name"),
        _("Phone"),
        _("E-mail"),
        _("What to fix"),
        _("Response, ms"),
        _("Request ID"),
    ]


def outcome_labels(translations: Translations) -> dict[Outcome, str]:
    """Return the label of each outcome in the table of attempts."""
    _ = translations.gettext
    labels = (_("created"), _("rejected"), _("failed"), _("no user created"))
    return dict(zip(Outcome, labels, strict=True))
