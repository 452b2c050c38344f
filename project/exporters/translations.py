"""Translations, labels and number formats that exporters use."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

from babel.dates import format_datetime
from babel.numbers import format_decimal, format_percent

from project.domain.messages import Messages

ABSENT = "—"
_TENTH_OF_PERCENT = Decimal("0.001")

_DAY_FORMATS = {"ru": "dd.MM.yyyy"}
_SORTABLE_DAY = "yyyy-MM-dd"
"""Format of days in languages that are not in _DAY_FORMATS: 02/03/2026 would be ambiguous."""


class Plural(Protocol):
    """Type of Flask-Babel's ngettext, which also fills in variables."""

    def __call__(self, singular: str, plural: str, num: int, /, **variables: object) -> str:
        """Return the singular or plural form for `num`, with the variables filled in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translations:
    """Translations, labels and number formats of the reader's language."""

    language: str
    gettext: Callable[[str], str]
    ngettext: Plural
    reason: Callable[[str], str]
    """Label of a code: `invalid_phone` -> "The phone number is not valid"."""
    status: Callable[[int], str]
    """Label of an HTTP status: 409 -> "Conflict"."""
    messages: Messages
    """The messages about invalid fields, the same as in the API."""

    def number(self, number: int) -> str:
        """Format a number: `10,930`, in Russian with a no-break space."""
        return _format_number(number, self.language)

    def share(self, part: int, total: int) -> str:
        """Format a percentage; return ABSENT if `total` is 0.

        A single failure is never rounded to 0 %, nor all but one to 100 %.
        """
        if not total:
            return ABSENT
        if part in (0, total):
            return format_percent(part / total, locale=self.language)
        share = Decimal(part) / total
        # Spreadsheets round half up, too: the files must agree.
        rounded = min(max(share.quantize(_TENTH_OF_PERCENT, ROUND_HALF_UP), _TENTH_OF_PERCENT), 1 - _TENTH_OF_PERCENT)
        bound = "<" if share < _TENTH_OF_PERCENT else ">" if share > 1 - _TENTH_OF_PERCENT else ""
        return bound + self.tenths(int(rounded * 1000))

    def tenths(self, tenths: int) -> str:
        """Format tenths of a percent: 922 -> `92.2%`. Only 0 % and 100 % have no decimals."""
        if tenths in (0, 1000):
            return format_percent(tenths // 1000, locale=self.language)
        decimals = "#,##0.0\xa0%" if self.language == "ru" else "#,##0.0%"
        return format_percent(Decimal(tenths) / 1000, decimals, locale=self.language)

    def day(self, moment: datetime, zone: ZoneInfo) -> str:
        """Format a date in `zone`: `2026-11-23`, in Russian `23.11.2026`."""
        return format_datetime(
            moment.astimezone(zone), _DAY_FORMATS.get(self.language, _SORTABLE_DAY), locale=self.language
        )

    def weekday(self, moment: datetime, zone: ZoneInfo) -> str:
        """Return the short name of the day of the week: `Mon`."""
        return format_datetime(moment.astimezone(zone), "EEE", locale=self.language)

    def moment(self, moment: datetime, zone: ZoneInfo) -> str:
        """Format a date and time in `zone`, to the second."""
        return f"{self.day(moment, zone)} {moment.astimezone(zone):%H:%M:%S}"


@lru_cache(maxsize=2048)
def _format_number(number: int, language: str) -> str:
    """Format a number. Cached, because Babel takes 10 µs."""
    return format_decimal(number, locale=language)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """The heading of a file: period, filters, and who exported it when."""

    period: str
    """Period without time zone: `16–23 November 2026`."""
    zone: str
    """Name of the time zone: `Moscow time (UTC+3)`."""
    filters: tuple[tuple[str, str], ...]
    """Pairs of name and value of filters; filters by status and client only if they are set."""
    selected: str
    """Selected values, for titles: `rejected, 422`. "" if there are no filters."""
    exported_by: str
    exported_at: datetime
