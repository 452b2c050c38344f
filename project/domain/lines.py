"""Layouts of the lines of an export: values of an attempt, separators and escaping.

Exporters define the layout and PostgreSQL writes the lines; neither depends on the other (docs/adr/0014).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from uuid import UUID
from zoneinfo import ZoneInfo

LONG_LINE_BYTES = 32_767
"""A longer line may contain a value that is too long for a spreadsheet."""
LINE_END = b"\x1e"
"""Separator of raw lines; values may contain it, too."""
_ID_LENGTH = 36
_CONTROLS = bytes([*range(32), 127])


class Value(Enum):
    """A value of an attempt that a line can contain. Times are in the zone of the layout."""

    ID = auto()
    LOCAL_TIME = auto()
    """`2026-11-23 15:04:12`"""
    ISO_TIME = auto()
    """`2026-11-23T15:04:12.000999+03:00`"""
    SERIAL_TIME = auto()
    """Days since 1899-12-30, the date format of workbooks, to the second."""
    ANSWERED = auto()
    CODE = auto()
    DURATION = auto()
    VIA = auto()
    USERNAME = auto()
    NAME = auto()
    PHONE = auto()
    EMAIL = auto()
    ERRORS = auto()
    """`phone:invalid_phone;email:invalid_email`"""


UNTRUSTED = frozenset({Value.USERNAME, Value.NAME, Value.PHONE, Value.EMAIL, Value.ERRORS})
"""Values that clients sent and that may contain any character."""

Label = Callable[[int, str], str]
"""Maps status and code of an attempt to a text of the file."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a line: its value, and the control character before it in raw lines."""

    value: Value | Label
    separator: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """Complete lines, raw or formatted."""

    rows: int
    content: bytes


@dataclass(frozen=True, slots=True)
class RawBlock(Block):
    """Raw lines, separated by LINE_END, of the attempts with IDs in (after, last]."""

    after: UUID
    last: UUID

    def lines(self) -> list[bytes]:
        """Split the block into lines; return an empty list if a value contains LINE_END."""
        lines = self.content.split(LINE_END)
        return lines if len(lines) == self.rows else []


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The format of the lines of a file.

    PostgreSQL writes raw lines: unescaped values with control characters as separators. Usually no value needs
    escaping: format_block() checks a whole block at once and replaces the separators. Any other line is built by
    format_line() from its escaped values. Both give the same line.
    """

    columns: tuple[Column, ...]
    """The first one has no separator."""
    separators: Mapping[str, str]
    """Separator in raw lines -> separator in the file."""
    prefix: str = ""
    suffix: str
    special: bytes = b""
    """Bytes that must be escaped in values, besides control characters."""
    unsafe: re.Pattern[str] = re.compile("")
    """Matches values that must be escaped. Slow, so searched only if `lead_bytes` or `hints` occur."""
    lead_bytes: bytes = b""
    """First bytes (UTF-8) of unsafe characters."""
    hints: tuple[re.Pattern[bytes], ...] = ()
    """Other signs that a value may be unsafe."""
    escape: Callable[[Value, str], str]
    blank: tuple[str, str] = ("", "")
    """A formatted empty value with its separators, and the shorter text that replaces it."""
    zone: ZoneInfo
    kinds: tuple[tuple[int, str], ...]
    """Pairs of status and code, the most frequent first; their labels are computed in advance."""

    def format_block(self, block: Block) -> bytes | None:
        """Format raw lines; return None if one of their values must be escaped."""
        raw = block.content
        expected = (self._all_separators + LINE_END) * (block.rows - 1) + self._all_separators
        if raw.translate(None, self._harmless) != expected or _has_long_line(raw):
            return None
        may_be_unsafe = any(byte in raw for byte in self.lead_bytes) or any(hint.search(raw) for hint in self.hints)
        if may_be_unsafe and self.unsafe.search(raw.decode()):
            return None
        for old, new in self._replacements:
            raw = raw.replace(old, new)
        return self._shorten_blanks(b"".join((self.prefix.encode(), raw, self.suffix.encode())))

    def id_of(self, line: bytes) -> bytes:
        """Return the attempt ID at the start or end of a raw line."""
        return line[:_ID_LENGTH] if self.columns[0].value is Value.ID else line[-_ID_LENGTH:]

    def format_line(self, status: int, code: str, values: Mapping[Value, str | None]) -> bytes:
        """Return a formatted line with these values, escaped."""
        line = self.prefix
        for column in self.columns:
            line += self.separators.get(column.separator, "")
            if isinstance(column.value, Value):
                text = values[column.value] or ""
                line += self.escape(column.value, text) if column.value in UNTRUSTED else text
            else:
                line += column.value(status, code)
        return self._shorten_blanks((line + self.suffix).encode())

    @property
    def values(self) -> list[Value]:
        return [column.value for column in self.columns if isinstance(column.value, Value)]

    def _shorten_blanks(self, content: bytes) -> bytes:
        return content.replace(self.blank[0].encode(), self.blank[1].encode()) if self.blank[0] else content

    @cached_property
    def _harmless(self) -> bytes:
        return bytes(byte for byte in range(256) if byte not in _CONTROLS + self.special)

    @cached_property
    def _all_separators(self) -> bytes:
        """The separators of a line: what remains of a safe line without its harmless bytes."""
        return "".join(column.separator for column in self.columns).encode()

    @cached_property
    def _replacements(self) -> list[tuple[bytes, bytes]]:
        separators = ((old.encode(), new.encode()) for old, new in self.separators.items() if old != new)
        return [(LINE_END, (self.suffix + self.prefix).encode()), *separators]


def _has_long_line(raw: bytes) -> bool:
    start = 0
    while len(raw) - start > LONG_LINE_BYTES:
        end = raw.rfind(LINE_END, start, start + LONG_LINE_BYTES + 1)
        if end < 0:
            return True
        start = end + 1
    return False


Lines = Callable[[Layout], Iterable[Block]]
"""Returns the attempts of a snapshot in this layout, oldest first."""
