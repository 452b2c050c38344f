"""Parses birth dates in two unambiguous formats.

Dates with slashes are refused, because the order of day and month differs between countries.
"""

import re
from datetime import date

from project.domain.errors import RuleError
from project.domain.text import remove_format_characters, trim

EARLIEST = date(1900, 1, 1)
_MIDNIGHT = r"(?:[T ]0?0:00(?::00(?:[.,]0{1,9})?)?Z?)?"
"""Matches the midnight that .NET, 1C, pandas and JavaScript append to a date. Other UTC offsets than Z are refused:
they may change the day."""
_ISO_FORM = re.compile(r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})" + _MIDNIGHT)
_DOTTED_FORM = re.compile(r"(?P<day>[0-9]{1,2})\.(?P<month>[0-9]{1,2})\.(?P<year>[0-9]{4})" + _MIDNIGHT)
_OTHER_FORMS = {
    "slashes": re.compile(r"\d{1,4}/\d{1,2}/\d{1,4}.*"),
    "short_year": re.compile(r"\d{1,2}[.-]\d{1,2}[.-]\d{2}"),
    # `.*\d.*` would take quadratic time, because it is tried from every digit before a line break.
    "time": re.compile(r"(?:\d{4}-\d{2}-\d{2}|\d{1,2}\.\d{1,2}\.\d{4})[T ]\D*\d(?s:.*)"),
}
"""Variant of the error `invalid_date` -> pattern of the refused format that its message explains."""


def parse_birth_date(text: str, today: date) -> date:
    """Parse YYYY-MM-DD (ISO 8601) or DD.MM.YYYY, perhaps with a time of midnight.

    Raises RuleError if the text has another form, or the date is not within EARLIEST and `today`.
    """
    typed = trim(text)
    if not typed.isascii():
        typed = remove_format_characters(typed)  # browsers put direction marks around the parts of a date
    match = _ISO_FORM.fullmatch(typed) or _DOTTED_FORM.fullmatch(typed)
    if match is None:
        variant = next((name for name, form in _OTHER_FORMS.items() if form.fullmatch(typed)), "")
        raise RuleError("invalid_date", variant)
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
    """Return whether parse_birth_date() accepts the text; future dates are accepted, too."""
    try:
        parse_birth_date(text, date.max)
    except RuleError:
        return False
    return True
