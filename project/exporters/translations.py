"""What a file needs to speak to its reader: the language, the words for codes, the forms of numbers and dates."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

from babel.dates import format_datetime
from babel.numbers import format_decimal, format_percent

ABSENT = "—"
_TENTH_OF_PERCENT = Decimal("0.001")

_DAYS = {"ru": "dd.MM.yyyy"}
_SORTABLE_DAY = "yyyy-MM-dd"
"""The form for all other languages: 02/03/2026 is another day on each side of the Atlantic."""


class Plural(Protocol):
    """ngettext as Flask-Babel has it: variables are filled in by whoever translates."""

    def __call__(self, singular: str, plural: str, num: int, /, **variables: object) -> str:
        """Return the form for `num`, filled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translations:
    """The voice of a file. Whoever asks for the file fills it in, so that exporters know no catalogue of texts."""

    language: str
    gettext: Callable[[str], str]
    ngettext: Plural
    reason: Callable[[str], str]
    """From a code to a few words: `invalid_phone` -> "The phone number is not valid"."""
    status: Callable[[int], str]
    """From an HTTP status to a few words: 409 -> "Conflict"."""

    def number(self, number: int) -> str:
        """Return `10,930`, in Russian with a no-break space."""
        return _number(number, self.language)

    def share(self, part: int, whole: int) -> str:
        """Return `92.2%`. Only nothing is 0 % and only everything is 100 %: rounding must not hide a single failure."""
        if not whole:
            return ABSENT
        if part in (0, whole):
            return format_percent(part / whole, locale=self.language)
        exact = Decimal(part) / whole
        # Half up, as spreadsheets round: the same share must not differ between two files.
        shown = min(max(exact.quantize(_TENTH_OF_PERCENT, ROUND_HALF_UP), _TENTH_OF_PERCENT), 1 - _TENTH_OF_PERCENT)
        bound = "<" if exact < _TENTH_OF_PERCENT else ">" if exact > 1 - _TENTH_OF_PERCENT else ""
        decimals = "#,##0.0\xa0%" if self.language == "ru" else "#,##0.0%"
        return bound + format_percent(shown, decimals, locale=self.language)

    def day(self, moment: datetime, zone: ZoneInfo) -> str:
        """Return the day of a moment in `zone`."""
        return format_datetime(moment.astimezone(zone), _DAYS.get(self.language, _SORTABLE_DAY), locale=self.language)

    def moment(self, moment: datetime, zone: ZoneInfo) -> str:
        """Return day and time of a moment in `zone`, to the second."""
        return f"{self.day(moment, zone)} {moment.astimezone(zone):%H:%M:%S}"


@lru_cache(maxsize=2048)
def _number(number: int, language: str) -> str:
    """A page has hundreds of numbers, few of which are new; Babel takes 10 µs for each."""
    return format_decimal(number, locale=language)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What stands on top of a file that people read: a print on a desk must tell what it shows."""

    period: str
    """In words, without the zone: `16.11.2026 14:34:46 — 23.11.2026 15:04:12`."""
    zone: str
    """In words: `Moscow time (UTC+3)`."""
    filters: tuple[tuple[str, str], ...]
    """Name and value of each filter, also of those that let everything pass."""
    exported_by: str
    exported_at: datetime
