"""Lines of a file: which values an attempt shows, what divides them, and what must be escaped.

Exporters describe their lines here and PostgreSQL writes them; neither knows the other (docs/adr/0014).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from uuid import UUID
from zoneinfo import ZoneInfo

LONG = 32_767
"""Bytes of a line that may hold a value too long for some spreadsheet."""
END = b"\x1e"
"""Stands between raw lines. A value among them may hold it, too."""
_ID_LENGTH = 36
_CONTROLS = bytes([*range(32), 127])


class Value(Enum):
    """What a line may show of an attempt. Times are of the layout's zone."""

    ID = auto()
    LOCAL_TIME = auto()
    """`2026-11-23 15:04:12`"""
    ISO_TIME = auto()
    """`2026-11-23T15:04:12.000999+03:00`"""
    SERIAL_TIME = auto()
    """Days since 1899-12-30, as workbooks count them, in whole seconds."""
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


TEXTS = frozenset({Value.USERNAME, Value.NAME, Value.PHONE, Value.EMAIL, Value.ERRORS})
"""Values that came from outside and may hold anything."""

Label = Callable[[int, str], str]
"""From status and code of an attempt to what the file says of its end."""


@dataclass(frozen=True, slots=True)
class Column:
    """One value of a line, and the control character that stands before it in a raw line."""

    shown: Value | Label
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """Some whole lines, raw or as the file has them."""

    rows: int
    content: bytes


@dataclass(frozen=True, slots=True)
class RawBlock(Block):
    """Raw lines of the attempts behind one and up to another, with END, or what was asked for, in between."""

    behind: UUID
    last: UUID

    def lines(self) -> list[bytes]:
        """Return the lines one by one; none if that cannot be told, because a value holds END, too."""
        lines = self.content.split(END)
        return lines if len(lines) == self.rows else []


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the attempts of a picture become lines.

    PostgreSQL writes raw lines: values as they are, with marks in between. Nearly always nothing in them needs to be
    escaped; one look at the whole block tells, and then marks become what divides the values in the file. A line that
    holds anything else is put together from its values, each escaped. Both ways give the same line.
    """

    columns: tuple[Column, ...]
    """The first has no mark."""
    marks: Mapping[str, str]
    """What stands in the file for each mark."""
    before: str = ""
    after: str
    """Begin and end of each line."""
    special: bytes = b""
    """Bytes that no value may hold as they are; control characters need not be named."""
    leads: bytes = b""
    """First bytes (UTF-8) of odd characters: where one occurs, a closer look is taken."""
    suspects: tuple[re.Pattern[bytes], ...] = ()
    """What calls for a closer look, too."""
    odd: re.Pattern[str] = re.compile("")
    """What must not be found in raw lines, if one looks closer."""
    escape: Callable[[Value, str], str]
    blank: tuple[str, str] = ("", "")
    """How an empty value looks in the file between its marks, and what to put in its place."""
    zone: ZoneInfo
    ends: tuple[tuple[int, str], ...]
    """Status and code of the attempts, the most frequent first: what words say of them is known beforehand."""

    def plain(self, block: Block) -> bytes | None:
        """Return raw lines as the file has them, or None if a value among them must be escaped."""
        raw = block.content
        expected = (self._skeleton + END) * (block.rows - 1) + self._skeleton
        if raw.translate(None, self._harmless) != expected or _has_long_line(raw):
            return None
        if self._is_suspect(raw) and self.odd.search(raw.decode()):
            return None
        for mark, markup in self._markup:
            raw = raw.replace(mark, markup)
        return self._filled(b"".join((self.before.encode(), raw, self.after.encode())))

    def id_of(self, line: bytes) -> bytes:
        """Return the id of the attempt of a raw line, which begins or ends with it."""
        return line[:_ID_LENGTH] if self.columns[0].shown is Value.ID else line[-_ID_LENGTH:]

    def escaped(self, status: int, code: str, values: Mapping[Value, str | None]) -> bytes:
        """Return one line, put together from its values."""
        line = self.before
        for column in self.columns:
            line += self.marks.get(column.mark, "")
            if isinstance(column.shown, Value):
                text = values[column.shown] or ""
                line += self.escape(column.shown, text) if column.shown in TEXTS else text
            else:
                line += column.shown(status, code)
        return self._filled((line + self.after).encode())

    def _is_suspect(self, raw: bytes) -> bool:
        return any(lead in raw for lead in self.leads) or any(suspect.search(raw) for suspect in self.suspects)

    @property
    def values(self) -> list[Value]:
        """The values that are shown."""
        return [column.shown for column in self.columns if isinstance(column.shown, Value)]

    def _filled(self, content: bytes) -> bytes:
        return content.replace(self.blank[0].encode(), self.blank[1].encode()) if self.blank[0] else content

    @cached_property
    def _harmless(self) -> bytes:
        return bytes(byte for byte in range(256) if byte not in _CONTROLS + self.special)

    @cached_property
    def _skeleton(self) -> bytes:
        """What a line without its harmless characters is: its marks, each once and in order."""
        return "".join(column.mark for column in self.columns).encode()

    @cached_property
    def _markup(self) -> list[tuple[bytes, bytes]]:
        between = (END, (self.after + self.before).encode())
        marks = ((mark.encode(), markup.encode()) for mark, markup in self.marks.items() if mark != markup)
        return [between, *marks]


def _has_long_line(raw: bytes) -> bool:
    """Tell whether a line takes more than `LONG` bytes."""
    start = 0
    while len(raw) - start > LONG:
        end = raw.rfind(END, start, start + LONG + 1)
        if end < 0:
            return True
        start = end + 1
    return False


Lines = Callable[[Layout], Iterable[Block]]
"""Gives the attempts of a picture, oldest first, laid out."""
