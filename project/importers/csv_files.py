"""Reads CSV files. Cells have no line breaks, so that a stray quote affects only one line."""

import csv
import os
import re
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from itertools import chain, islice
from typing import BinaryIO

from project.domain.errors import FieldError, RefusalError, ValidationFailedError
from project.importers.columns import MAX_ROWS_ABOVE_HEADER, Columns
from project.importers.encodings import open_text
from project.importers.rows import MAX_LINE_LENGTH, FileError, Row, Source, build_row, line_too_long_error

DELIMITERS = (",", ";", "\t", "|")
"""Supported delimiters. Excel writes semicolons in locales with a decimal comma, and tabs as "Unicode text"."""
MAX_HEADER_LINES = 5
"""Maximum number of lines of the header row: spreadsheets may write line breaks in it."""
_QUOTE = '"'
_TEXT_MARKER = re.compile(r"'\s*[=+\-@＝＋－＠]")

CsvLine = tuple[int, str | None]
"""Number of a line from 1, and its text, or None if it is too long."""


def open_csv(file: BinaryIO, columns: Columns) -> Source:
    """Open a CSV file in UTF-8 or UTF-16 with one of DELIMITERS. Raises FileError."""
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    text = open_text(file)
    headers, delimiter, rest = _find_headers(_lines(text), columns)
    fields, notes = columns.map_headers(headers)
    return Source(length, tuple(headers), fields, _rows(rest, fields, delimiter, file.tell), notes)


def _lines(text: TextIOWrapper) -> Iterator[CsvLine]:
    number = 0
    while line := text.readline(MAX_LINE_LENGTH + 1):
        number += 1
        part = line
        while len(part) > MAX_LINE_LENGTH and not part.endswith("\n"):
            part = text.readline(MAX_LINE_LENGTH + 1)
        line = line.removesuffix("\n")
        yield number, line if len(line) <= MAX_LINE_LENGTH else None
    text.detach()  # otherwise it closes the file, whose position is read after this


def _find_headers(lines: Iterator[CsvLine], columns: Columns) -> tuple[list[str], str, Iterator[CsvLine]]:
    """Return the headers, the delimiter and the lines below the headers.

    Skips a title and the line `sep=;`, which Excel writes. Raises FileError.
    """
    start = list(islice(lines, MAX_ROWS_ABOVE_HEADER + MAX_HEADER_LINES))
    first: list[str] = []
    for index in range(min(MAX_ROWS_ABOVE_HEADER, len(start))):
        for last in range(index + 1, min(index + MAX_HEADER_LINES, len(start)) + 1):
            header = "\n".join(line or "" for _, line in start[index:last])
            if header.count(_QUOTE) % 2:  # a header that continues on the next line
                continue
            candidates = [(_parse(header, delimiter) or [], delimiter) for delimiter in DELIMITERS]
            for cells, delimiter in candidates:
                if columns.are_headers(cells):
                    return cells, delimiter, chain(start[last:], lines)
            if not header.lower().startswith("sep="):
                first = first or max((cells for cells, _ in candidates if any(cells)), key=len, default=[])
            break
    if not first:
        raise FileError("empty")
    raise columns.explain_missing_headers(first)


def _rows(
    lines: Iterator[CsvLine], fields: tuple[str | None, ...], delimiter: str, tell: Callable[[], int]
) -> Iterator[Row]:
    for number, line in lines:
        if line is None:
            yield Row(number, (), {}, line_too_long_error(), tell())
            continue
        cells = _parse(line, delimiter)
        if cells is None:
            yield _refuse_stray_quote(number, line.split(delimiter), fields, tell())
        elif any(cell.strip() for cell in cells):
            yield build_row(number, fields, tuple(map(_remove_text_marker, cells)), tell(), delimiter)


def _parse(line: str, delimiter: str) -> list[str] | None:
    """Return the cells of a line, or None if its quotes are invalid."""
    if _QUOTE not in line:
        return line.split(delimiter)
    try:
        [cells] = csv.reader([line], delimiter=delimiter, strict=True)
    except (csv.Error, ValueError):
        return None
    return cells


def _refuse_stray_quote(number: int, cells: list[str], fields: tuple[str | None, ...], position: int) -> Row:
    """Return a refused row for a line with an unclosed or misplaced quote."""
    row = build_row(number, fields, tuple(cells), position)
    index = next((index for index, cell in enumerate(cells) if cell.count(_QUOTE) % 2), 0)
    field = (fields[index] if index < len(fields) else None) or f"column {index + 1}"
    refusal: RefusalError = ValidationFailedError((FieldError(field, "invalid_characters", "stray_quote"),))
    return Row(number, row.cells, row.body, refusal, position)


def _remove_text_marker(cell: str) -> str:
    """Remove `="…"` or an apostrophe, which mark a cell as text for spreadsheets."""
    if cell.startswith('="') and cell.endswith(_QUOTE):
        return cell[2:-1].replace('""', _QUOTE)
    return cell[1:] if _TEXT_MARKER.match(cell) else cell
