"""A second implementation of the lines that PostgreSQL writes for exports, in Python."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice

from project.domain.attempts import AttemptRow
from project.domain.lines import RAW_LINE_SEPARATOR, Block, Layout, ReadLines, Value


def lines_of(rows: Iterable[AttemptRow], size: int = 500) -> ReadLines:
    """Return a function that yields attempts as formatted lines, in blocks of `size` rows."""

    def lines(layout: Layout) -> Iterator[Block]:
        remaining = iter(rows)
        while found := list(islice(remaining, size)):
            yield Block(len(found), _content(layout, found))

    return lines


def _content(layout: Layout, rows: list[AttemptRow]) -> bytes:
    """Format rows as the service does: as a block, or line by line if a row needs escaping."""
    raw = [raw_line(layout, row) for row in rows]
    content = None if None in raw else layout.format_block(block_of([line for line in raw if line is not None]))
    if content is not None:
        return content
    return b"".join(
        (line is not None and layout.format_block(block_of([line])))
        or layout.format_line(row.status, row.code, values(layout, row))
        for line, row in zip(raw, rows, strict=True)
    )


def block_of(lines: list[bytes]) -> Block:
    """Join raw lines to a block, as PostgreSQL does."""
    return Block(len(lines), RAW_LINE_SEPARATOR.join(lines))


def raw_line(layout: Layout, row: AttemptRow) -> bytes | None:
    """Return the raw line of an attempt; None if PostgreSQL cannot store its text."""
    shown = values(layout, row)
    cells = (
        column.format_raw(
            shown[column.value] or "" if isinstance(column.value, Value) else column.value(row.status, row.code)
        )
        for column in layout.columns
    )
    try:
        return "".join(cells).encode()
    except UnicodeEncodeError:
        return None


def values(layout: Layout, row: AttemptRow) -> dict[Value, str | None]:
    """Return the values of an attempt as PostgreSQL formats them."""
    local = row.received_at.astimezone(layout.zone)
    return {
        Value.ID: str(row.id),
        Value.LOCAL_TIME: local.isoformat(" ")[:19],
        Value.ISO_TIME: _iso(local),
        Value.SERIAL_TIME: str(_serial_time(local)).removesuffix(".0"),
        Value.ANSWERED: None if row.answered is None else str(row.answered),
        Value.CODE: row.code,
        Value.DURATION: str(row.duration_ms),
        Value.VIA: row.via,
        Value.USERNAME: row.username,
        Value.NAME: row.name,
        Value.PHONE: row.phone_masked,
        Value.EMAIL: row.email_masked,
        Value.MESSAGES: layout.messages.describe(row.errors),
        Value.ERRORS: ";".join(f"{error.field}:{error.code}" for error in row.errors) or None,
    }


def _iso(local: datetime) -> str:
    """Return ISO 8601 with as few fractional digits as PostgreSQL's JSON."""
    text = local.isoformat(timespec="microseconds")
    return text[:19] + text[19:26].rstrip("0").rstrip(".") + text[26:]


def _serial_time(local: datetime) -> float:
    """Return a time as workbooks store it: days since 1899-12-30."""
    days = local.replace(tzinfo=None, microsecond=0) - datetime(1970, 1, 1)  # noqa: DTZ001 (workbooks know no zones)
    return days // timedelta(seconds=1) / 86_400 + 25_569
