"""Writes simple tables that people correct in a spreadsheet: CSV and .xlsx."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from xlsxwriter import Workbook

from project.exporters.cells import put_text
from project.exporters.formulas import disarmed

Write = Callable[[Sequence[str]], None]
"""Writes a row."""

CREDENTIALS = ("name", "login", "password", "phone", "e-mail")
"""Heads of a file of credentials, the same in every language, so that it can be appended to."""
BYTE_ORDER_MARK = "\ufeff".encode()
_WIDTHS = (12, 40)
"""Least and greatest width of a column, in characters."""


def csv_line(cells: Sequence[str], delimiter: str) -> bytes:
    """Return a line of a CSV file; formulas get an apostrophe (CWE-1236)."""
    line = io.StringIO()
    inert = (disarmed(cell, is_phone=True) for cell in cells)
    csv.writer(line, delimiter=delimiter, lineterminator="\r\n").writerow(inert)
    return line.getvalue().encode(errors="replace")


@contextmanager
def open_csv_table(file: BinaryIO, delimiter: str, *, has_mark: bool) -> Iterator[Write]:
    """Yield a function that writes rows of CSV.

    `has_mark`: begin with a byte order mark, by which Excel recognizes UTF-8.
    """
    if has_mark:
        file.write(BYTE_ORDER_MARK)

    def write(cells: Sequence[str]) -> None:
        file.write(csv_line(cells, delimiter))

    yield write


@contextmanager
def open_xlsx_table(file: BinaryIO) -> Iterator[Write]:
    """Yield a function that writes rows of a workbook as text; the first row is the head."""
    with Workbook(file, {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}) as book:
        sheet = book.add_worksheet()
        head, text = book.add_format({"bold": True}), book.add_format({"num_format": "@"})
        number = 0

        def write(cells: Sequence[str]) -> None:
            nonlocal number
            if number == 0:
                for column, cell in enumerate(cells):
                    width = max(_WIDTHS[0], min(_WIDTHS[1], len(cell) + 2))
                    sheet.set_column(column, column, _WIDTHS[1] if column == len(cells) - 1 else width, text)
                sheet.freeze_panes(1, 0)
            for column, cell in enumerate(cells):
                put_text(sheet, number, column, cell, text if number else head)
            number += 1

        yield write
