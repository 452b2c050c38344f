"""Layouts of exported lines: the values of an attempt, their separators and escaping.

Exporters define a layout, and PostgreSQL formats lines by that layout (docs/adr/0014).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from uuid import UUID
from zoneinfo import ZoneInfo

from project.domain.messages import Messages

LONG_LINE_BYTES = 32_767
"""Length in bytes up to which a line cannot contain a value too long for a spreadsheet cell."""
RAW_LINE_SEPARATOR = b"\x1e"
"""Separator of the raw lines in a block. RawBlock.lines() detects values that contain this byte."""
CONCAT_SEPARATOR = "\x01"
"""First character of each column separator in raw lines: concat_ws() of PostgreSQL joins values with this character."""
_ID_LENGTH = 36
_CONTROLS = bytes([*range(32), 127])


class Value(Enum):
    """A value of an attempt that a line can contain. Times are in the time zone of the layout."""

    ID = auto()
    LOCAL_TIME = auto()
    """The time of arrival as `2026-11-23 15:04:12`."""
    ISO_TIME = auto()
    """The time of arrival as `2026-11-23T15:04:12.000999+03:00` (ISO 8601)."""
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
    """The invalid fields with their codes: `phone:invalid_phone;email:invalid_email`."""
    MESSAGES = auto()
    """Every invalid field with its message. In raw lines, a control character replaces a text that PostgreSQL cannot
    compute."""


UNTRUSTED = frozenset({Value.USERNAME, Value.NAME, Value.PHONE, Value.EMAIL, Value.ERRORS, Value.MESSAGES})
"""Values that clients sent and that may contain any character."""

LabelFunction = Callable[[int, str], str]
"""Returns the label for the status and code of an attempt."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a line: its value, and the control characters before the value in raw lines."""

    value: Value | LabelFunction
    separator: str = ""
    blank: str = ""
    """Control character instead of the separator in raw lines if the value is empty; not written to the file."""
    width: int = 0
    """Number of characters. Shorter values are padded, longer values are cut and end with `…`. 0 means any length."""

    def format_raw(self, text: str) -> str:
        """Return a text as in raw lines: padded or cut to the width, after the separator.

        Returns `blank` instead for an empty text, if the column has one.
        """
        return self.separator + self.fit(text) if text or not self.blank else self.blank

    def fit(self, text: str) -> str:
        """Return a text padded or cut to the width of the column."""
        return self.cut(text).ljust(self.width)

    def cut(self, text: str) -> str:
        """Return a text cut to the width of the column; it ends with `…` if it was longer."""
        return f"{text[: self.width - 1]}…" if 0 < self.width < len(text) else text


@dataclass(frozen=True, slots=True)
class Block:
    """Complete lines, raw or formatted."""

    rows: int
    """Number of lines."""
    content: bytes


@dataclass(frozen=True, slots=True)
class RawBlock(Block):
    """Raw lines, separated by RAW_LINE_SEPARATOR, of the attempts with IDs in (after, last]."""

    after: UUID
    last: UUID

    def lines(self) -> list[bytes]:
        """Split the block into lines; return an empty list if a value contains RAW_LINE_SEPARATOR."""
        lines = self.content.split(RAW_LINE_SEPARATOR)
        return lines if len(lines) == self.rows else []


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The format of the lines of a file.

    PostgreSQL writes raw lines: unescaped values with control characters as separators. Usually no value needs
    escaping; then format_block() only replaces the separators of a whole block. In other blocks, format_line() builds
    the lines that need escaping from their values.
    """

    columns: tuple[Column, ...]
    """The columns of a line. The first column has no separator."""
    separators: Mapping[str, str]
    """Control character in raw lines -> separator in the file."""
    prefix: str = ""
    suffix: str
    special: bytes = b""
    """Bytes that must be escaped in values, besides control characters."""
    unsafe: re.Pattern[str] = re.compile("")
    """Finds values in raw lines that must be escaped. As it is slow, it is used only if `lead_bytes` or `hints`
    occur."""
    lead_bytes: bytes = b""
    """First bytes (in UTF-8) of non-ASCII characters in the values that `unsafe` finds."""
    hints: tuple[re.Pattern[bytes], ...] = ()
    """Fast patterns, one of which occurs in raw lines with other values that `unsafe` finds."""
    escape: Callable[[Value, str], str]
    before_messages: str = ""
    """Control character that precedes only MESSAGES; set if usual messages must be escaped. format_block() then escapes
    each different message of a block once."""
    messages: Messages
    zone: ZoneInfo
    kinds: tuple[tuple[int, str], ...]
    """Pairs of status and code, the most frequent first; their labels are computed in advance."""

    def format_block(self, block: Block) -> bytes | None:
        """Format raw lines; return None if a value needs escaping or may be too long for a cell."""
        if _has_long_line(block.content):
            return None
        parts = self._message_pattern.split(block.content) if self._message_pattern else [block.content]
        if not self._is_ordinary(self.before_messages.encode().join(parts[::2]), block.rows):
            return None
        escaped = {message: self.escape(Value.MESSAGES, message.decode()).encode() for message in set(parts[1::2])}
        parts[1::2] = [escaped[message] for message in parts[1::2]]
        raw = b"".join(parts).translate(self._single_bytes, self._removed)
        for old, new in self._replacements:
            raw = raw.replace(old, new)
        return b"".join((self.prefix.encode(), raw, self.suffix.encode()))

    def _is_ordinary(self, raw: bytes, rows: int) -> bool:
        """Return whether separators are as expected, and no value must be escaped."""
        expected = (self._all_separators + RAW_LINE_SEPARATOR) * (rows - 1) + self._all_separators
        if raw.translate(self._separators_of_blanks, self._ordinary_bytes) != expected:
            return False
        may_be_unsafe = any(byte in raw for byte in self.lead_bytes) or any(hint.search(raw) for hint in self.hints)
        return not (may_be_unsafe and self.unsafe.search(raw.decode()))

    def id_of(self, line: bytes) -> bytes:
        """Return the attempt ID of a raw line.

        The ID must be the first value of the layout, or followed only by labels and MESSAGES, which contain no
        separators.
        """
        if self.columns[0].value is Value.ID:
            return line[:_ID_LENGTH]
        for separator in self._separators_after_id:
            line = line[: line.rindex(separator)]
        return line[-_ID_LENGTH:]

    def format_line(self, status: int, code: str, values: Mapping[Value, str | None]) -> bytes:
        """Return the line of an attempt with this status, code and values, escaped."""
        line = self.prefix
        for column in self.columns:
            text = self._text(column, status, code, values)
            if text or not column.blank:
                line += "".join(map(self.separators.__getitem__, column.separator)) + text
        return (line + self.suffix).encode()

    def _text(self, column: Column, status: int, code: str, values: Mapping[Value, str | None]) -> str:
        if not isinstance(column.value, Value):
            return column.fit(column.value(status, code))
        text = column.cut(values[column.value] or "")
        return column.fit(self.escape(column.value, text) if column.value in UNTRUSTED else text)

    @property
    def values(self) -> list[Value]:
        return [column.value for column in self.columns if isinstance(column.value, Value)]

    @cached_property
    def _ordinary_bytes(self) -> bytes:
        return bytes(byte for byte in range(256) if byte not in _CONTROLS + self.special)

    @cached_property
    def _all_separators(self) -> bytes:
        """All separators of a line, in order."""
        return "".join(column.separator for column in self.columns).encode()

    @cached_property
    def _separators_after_id(self) -> list[bytes]:
        """The separators after the ID, the last one first."""
        values = [column.value for column in self.columns]
        return [column.separator.encode() for column in self.columns[: values.index(Value.ID) : -1]]

    @cached_property
    def _blanks(self) -> bytes:
        return "".join(column.blank for column in self.columns).encode()

    @cached_property
    def _message_pattern(self) -> re.Pattern[bytes] | None:
        """Matches the messages of a line, up to a control character.

        None if `before_messages` is not set.
        """
        return re.compile(f"{self.before_messages}([^\0-\x1f\x7f]+)".encode()) if self.before_messages else None

    @cached_property
    def _removed(self) -> bytes:
        """Bytes of raw lines to delete: `blank` of columns, and separators without a replacement."""
        return self._blanks.replace(CONCAT_SEPARATOR.encode(), b"") + b"".join(
            old.encode() for old, new in self.separators.items() if not new
        )

    @cached_property
    def _single_bytes(self) -> bytes:
        """Translation table of the separators that are replaced by a single byte."""
        table = bytearray(range(256))
        for old, new in self.separators.items():
            if len(new.encode()) == 1:
                table[ord(old)] = ord(new)
        return bytes(table)

    @cached_property
    def _separators_of_blanks(self) -> bytes:
        separators = "".join(column.separator for column in self.columns if column.blank).encode()
        return bytes.maketrans(self._blanks, separators)  # CONCAT_SEPARATOR stays what it is

    @cached_property
    def _replacements(self) -> list[tuple[bytes, bytes]]:
        longer = ((old.encode(), new.encode()) for old, new in self.separators.items() if len(new.encode()) > 1)
        return [(RAW_LINE_SEPARATOR, (self.suffix + self.prefix).encode()), *longer]


def _has_long_line(raw: bytes) -> bool:
    start = 0
    while len(raw) - start > LONG_LINE_BYTES:
        end = raw.rfind(RAW_LINE_SEPARATOR, start, start + LONG_LINE_BYTES + 1)
        if end < 0:
            return True
        start = end + 1
    return False


ReadLines = Callable[[Layout], Iterable[Block]]
"""Returns blocks of lines in this layout for the attempts of a snapshot, oldest first."""
