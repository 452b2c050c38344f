"""Writes tables as .csv and .xlsx files: refused rows of imports, and credentials."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from xlsxwriter import Workbook

from project.exporters.cells import put_text
from project.exporters.formulas import escape_formula

WriteRow = Callable[[Sequence[str]], None]
"""A function that writes the cells of a row."""

CREDENTIALS = ("name", "login", "password", "phone", "e-mail")
"""Headers of a file of credentials. They are not translated, so that an import in another language can append rows."""
BYTE_ORDER_MARK = "\ufeff".encode()
_WIDTHS = (12, 40)
"""Minimum and maximum width of a column in characters."""


def csv_line(cells: Sequence[str], delimiter: str) -> bytes:
    """Return a row of a CSV file in UTF-8, with an apostrophe before formulas (CWE-1236)."""
    line = io.StringIO()
    escaped = (escape_formula(cell, is_phone=True) for cell in cells)
    csv.writer(line, delimiter=delimiter, lineterminator="\r\n").writerow(escaped)
    return line.getvalue().encode(errors="replace")


@contextmanager
def open_csv_table(file: BinaryIO, delimiter: str, *, has_mark: bool) -> Iterator[WriteRow]:
    """Yield a function that writes rows of CSV.

    With `has_mark`, the file begins with a byte order mark, which tells Excel that it is UTF-8.
    """
    if has_mark:
        file.write(BYTE_ORDER_MARK)

    def write(cells: Sequence[str]) -> None:
        file.write(csv_line(cells, delimiter))

    yield write


@contextmanager
def open_xlsx_table(file: BinaryIO) -> Iterator[WriteRow]:
    """Yield a function that writes rows of a workbook as text. The first row is the header."""
    with Workbook(file, {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}) as book:
        sheet = book.add_worksheet()
        header, text = book.add_format({"bold": True}), book.add_format({"num_format": "@"})
        number = 0

        def write(cells: Sequence[str]) -> None:
            nonlocal number
            if number == 0:
                for column, cell in enumerate(cells):
                    width = max(_WIDTHS[0], min(_WIDTHS[1], len(cell) + 2))
                    sheet.set_column(column, column, _WIDTHS[1] if column == len(cells) - 1 else width, text)
                sheet.freeze_panes(1, 0)
            for column, cell in enumerate(cells):
                put_text(sheet, number, column, cell, text if number else header)
            number += 1

        yield write
