"""The .xlsx workbook: numbers and charts to look at, and behind them every attempt.

XlsxWriter makes everything that is small. The rows, which it would write one cell at a time, are streamed into their
sheets while the workbook is being packed.
"""

from collections.abc import Iterator
from datetime import UTC
from functools import cache
from io import BytesIO
from zipfile import ZipFile

from xlsxwriter import Workbook

from project.domain.lines import Block, Lines
from project.domain.reports import Count, Report
from project.exporters import log_sheets, summary, summary_sheets
from project.exporters.packing import Part, pack
from project.exporters.styles import Styles
from project.exporters.translations import Heading, Translations

SHEETS_BEFORE = 3
"""Summary, by error, by day."""
_FIRST = "_rels/.rels"
"""Says where the workbook lies; programs that tell files by their beginning know it."""


class TooManyRowsError(RuntimeError):
    """There are more rows than the sheets that were made for them hold."""


def stream(
    count: Count,
    lines: Lines,
    heading: Heading,
    translations: Translations,
    *,
    rows_per_sheet: int = log_sheets.MAX_ROWS,
) -> Iterator[bytes]:
    """Yield the workbook in blocks. Its end is the table of its parts: without it, the download broke off."""
    return pack(_parts(count, lines, heading, translations, rows_per_sheet))


def _parts(count: Count, lines: Lines, heading: Heading, translations: Translations, most: int) -> Iterator[Part]:
    """Yield the parts of the archive, each of which is packed before the next one is made.

    The first is the same in every workbook: it is on its way while attempts are counted.
    """
    yield _FIRST, [_first_part()]
    report, made = count(), BytesIO()
    sizes = _make(made, report, heading, translations, most)
    with ZipFile(made) as archive:
        names = [f"xl/worksheets/sheet{SHEETS_BEFORE + number}.xml" for number in range(1, len(sizes) + 1)]
        small = {name: archive.read(name) for name in archive.namelist() if name != _FIRST}
    sheets = [log_sheets.split(small.pop(name).decode(), rows) for name, rows in zip(names, sizes, strict=True)]
    for name, content in small.items():
        yield name, [content]
    blocks = iter(lines(log_sheets.layout(report, translations, sheets[0][2])))
    for name, (head, tail, _styles) in zip(names, sheets, strict=True):
        yield name, _sheet(head, tail, blocks, most)
    if next(blocks, None):
        raise TooManyRowsError


@cache
def _first_part() -> bytes:
    made = BytesIO()
    Workbook(made, {"in_memory": True}).close()
    with ZipFile(made) as archive:
        return archive.read(_FIRST)


def _sheet(head: bytes, tail: bytes, blocks: Iterator[Block], most: int) -> Iterator[bytes]:
    """Yield a sheet with as many of the rows as it holds. Blocks must not reach across its end."""
    yield head
    rows = 0
    while rows < most and (block := next(blocks, None)):
        rows += block.rows
        yield block.content
    if rows > most:
        raise TooManyRowsError
    yield tail


def _make(
    file: BytesIO, report: Report, heading: Heading, translations: Translations, rows_per_sheet: int
) -> list[int]:
    """Write the workbook without its rows; return how many belong into each sheet of attempts."""
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    workbook = Workbook(file, options)
    workbook.set_properties(
        {
            "title": summary.title(translations),
            "author": "useradd",
            "created": heading.exported_at.astimezone(UTC).replace(tzinfo=None),
        }
    )
    styles = Styles.of(workbook, translations.language)
    summary_sheets.add(workbook, report, heading, translations, styles)
    sizes = log_sheets.add(workbook, report.total, translations, styles, rows_per_sheet)
    workbook.close()
    return sizes
