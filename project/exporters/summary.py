"""The numbers and words that every file for people has in common: heading, totals, heads of tables."""

from project.domain.attempts import Outcome
from project.domain.reports import Bucket, Report
from project.exporters.translations import Heading, Translations

_SPOKEN = (Outcome.CREATED, Outcome.REJECTED, Outcome.FAILED)


def title(translations: Translations) -> str:
    """Return what the file is about."""
    _ = translations.gettext
    return _("Requests to create users")


def heading_lines(heading: Heading, report: Report, translations: Translations) -> list[tuple[str, str]]:
    """Return name and value of what the file shows, by which filters, who asked for it and when."""
    _ = translations.gettext
    return [
        (_("Period"), f"{heading.period}, {heading.zone}"),
        *heading.filters,
        (_("Exported"), f"{translations.moment(heading.exported_at, report.zone)}, {heading.exported_by}"),
    ]


def outcomes(report: Report) -> tuple[Outcome, ...]:
    """Return the outcomes worth a line: dry runs and replays only if there were any."""
    return (*_SPOKEN, Outcome.UNCHANGED) if report.unchanged else _SPOKEN


def totals(report: Report, translations: Translations) -> list[tuple[str, int]]:
    """Return name and number: all attempts, then each outcome."""
    _ = translations.gettext
    names = {
        Outcome.CREATED: _("Users created"),
        Outcome.REJECTED: _("Rejected (4xx)"),
        Outcome.FAILED: _("Service failures (5xx)"),
        Outcome.UNCHANGED: _("No user created (dry runs and repeats)"),
    }
    counts = [(names[outcome], report.count(outcome)) for outcome in outcomes(report)]
    return [(_("All requests"), report.total), *counts]


def durations(report: Report, translations: Translations) -> list[tuple[str, int]]:
    """Return name and milliseconds: how long answers took; nothing if there were none."""
    _ = translations.gettext
    if report.durations is None:
        return []
    return [
        (_("Median, ms"), report.durations.p50),
        (_("95th percentile, ms"), report.durations.p95),
        (_("99th percentile, ms"), report.durations.p99),
    ]


def day_heads(report: Report, translations: Translations) -> list[str]:
    """Return the head of the table by day; its numbers are those of `day_counts`."""
    _ = translations.gettext
    names = {
        Outcome.CREATED: _("Created"),
        Outcome.REJECTED: _("Rejected"),
        Outcome.FAILED: _("Failures"),
        Outcome.UNCHANGED: _("No user created"),
    }
    return [_("Day"), _("Total"), *(names[outcome] for outcome in outcomes(report))]


def day_counts(report: Report, day: Bucket) -> list[int]:
    """Return the numbers of a day, in the order of `day_heads`."""
    counts = {
        Outcome.CREATED: day.created,
        Outcome.REJECTED: day.rejected,
        Outcome.FAILED: day.failed,
        Outcome.UNCHANGED: day.unchanged,
    }
    return [day.total, *(counts[outcome] for outcome in outcomes(report))]


def log_heads(translations: Translations) -> list[str]:
    """Return the head of the table of attempts."""
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
        _("Response, ms"),
        _("Request ID"),
    ]


def log_outcomes(translations: Translations) -> dict[Outcome, str]:
    """Return the word for the outcome of a single attempt."""
    _ = translations.gettext
    return {
        Outcome.CREATED: _("created"),
        Outcome.REJECTED: _("rejected"),
        Outcome.FAILED: _("failed"),
        Outcome.UNCHANGED: _("no user created"),
    }
