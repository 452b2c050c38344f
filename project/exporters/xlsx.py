"""Exports an .xlsx workbook: totals, charts and attempts.

XlsxWriter is slow, because it writes one cell at a time. So it creates the workbook without the rows of attempts, which
are inserted into their sheets while the workbook is streamed.
"""

from collections.abc import Iterator
from datetime import UTC
from functools import cache
from io import BytesIO
from zipfile import ZipFile

from xlsxwriter import Workbook

from project.domain.lines import Block, ReadLines
from project.domain.reports import CountAttempts, Report
from project.exporters import log_sheets, summary, summary_sheets
from project.exporters.packing import Part, pack
from project.exporters.styles import Styles
from project.exporters.translations import Heading, Translations

SUMMARY_SHEETS = 3
FIRST_ROW = 2
"""Number of the row below the header."""
_FIRST_PART = "_rels/.rels"
"""Name of the first part of the archive, which tells programs the file type."""


class TooManyRowsError(RuntimeError):
    """Raised if there are more attempts than the sheets were created for."""


def stream(
    count: CountAttempts,
    lines: ReadLines,
    heading: Heading,
    translations: Translations,
    *,
    rows_per_sheet: int = log_sheets.MAX_ROWS,
) -> Iterator[bytes]:
    """Yield the workbook in blocks. A truncated file is invalid, as its directory comes last.

    Raises TooManyRowsError if there are more attempts than the sheets have room for.
    """
    return pack(_parts(count, lines, heading, translations, rows_per_sheet))


def _parts(
    count: CountAttempts, lines: ReadLines, heading: Heading, translations: Translations, rows_per_sheet: int
) -> Iterator[Part]:
    """Yield the name and content of each part of the archive. Raises TooManyRowsError.

    The first part is the same in every workbook, so it is yielded before attempts are counted.
    """
    yield _FIRST_PART, [_first_part()]
    report, file = count(), BytesIO()
    sizes = _write_workbook(file, report, heading, translations, rows_per_sheet)
    with ZipFile(file) as archive:
        names = [f"xl/worksheets/sheet{SUMMARY_SHEETS + number}.xml" for number in range(1, len(sizes) + 1)]
        other_parts = {name: archive.read(name) for name in archive.namelist() if name != _FIRST_PART}
    sheets = [
        log_sheets.split_sheet(other_parts.pop(name).decode(), rows) for name, rows in zip(names, sizes, strict=True)
    ]
    for name, content in other_parts.items():
        yield name, [content]
    blocks = iter(lines(log_sheets.layout(report, translations, sheets[0][2])))
    for name, (head, tail, _styles) in zip(names, sheets, strict=True):
        yield name, _sheet(head, tail, blocks, rows_per_sheet)
    if next(blocks, None):
        raise TooManyRowsError


@cache
def _first_part() -> bytes:
    file = BytesIO()
    Workbook(file, {"in_memory": True}).close()
    with ZipFile(file) as archive:
        return archive.read(_FIRST_PART)


def _sheet(head: bytes, tail: bytes, blocks: Iterator[Block], rows_per_sheet: int) -> Iterator[bytes]:
    """Yield a sheet of attempts. Raises TooManyRowsError if a block does not fit into it."""
    yield head
    rows = 0
    while rows < rows_per_sheet and (block := next(blocks, None)):
        yield log_sheets.number_rows(block.content, FIRST_ROW + rows)
        rows += block.rows
    if rows > rows_per_sheet:
        raise TooManyRowsError
    yield tail


def _write_workbook(
    file: BytesIO, report: Report, heading: Heading, translations: Translations, rows_per_sheet: int
) -> list[int]:
    """Write the workbook without rows of attempts; return the number of rows for each sheet."""
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    workbook = Workbook(file, options)
    created = heading.exported_at.astimezone(UTC).replace(tzinfo=None)
    workbook.set_properties(
        {"title": summary.file_title(heading, translations), "author": "useradd", "created": created}
    )
    styles = Styles.add_to(workbook, translations.language)
    summary_sheets.add_sheets(workbook, report, heading, translations, styles)
    sizes = log_sheets.add_sheets(workbook, report.total, heading, translations, styles, rows_per_sheet)
    workbook.close()
    return sizes
