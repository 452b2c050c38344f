"""Parses birth dates in two unambiguous formats; with slashes the order varies by country."""

import re
from datetime import date

from project.domain.errors import RuleError

EARLIEST = date(1900, 1, 1)
_FORMS = (
    re.compile(r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"),
    re.compile(r"(?P<day>[0-9]{2})\.(?P<month>[0-9]{2})\.(?P<year>[0-9]{4})"),
)


def parse_birth_date(text: str, today: date) -> date:
    """Parse YYYY-MM-DD (ISO 8601) or DD.MM.YYYY. Raises RuleError outside 1900-01-01..`today`."""
    match = next(filter(None, (form.fullmatch(text.strip()) for form in _FORMS)), None)
    if match is None:
        raise RuleError("invalid_date")
    try:
        parsed = date(int(match["year"]), int(match["month"]), int(match["day"]))
    except ValueError:
        raise RuleError("invalid_date", "no_such_day") from None
    if parsed > today:
        raise RuleError("date_out_of_range", "future")
    if parsed < EARLIEST:
        raise RuleError("date_out_of_range", "past")
    return parsed


def is_birth_date(text: str) -> bool:
    """Return whether the text is a birth date in one of the formats; future dates count."""
    try:
        parse_birth_date(text, date.max)
    except RuleError:
        return False
    return True
