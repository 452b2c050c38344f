"""Reads workbooks (.xlsx). Raises FileError if a workbook is damaged."""

import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, time
from typing import Any, BinaryIO
from zipfile import BadZipFile, ZipFile

from project.domain.errors import FieldError, ValidationFailedError
from project.importers.columns import MAX_ROWS_ABOVE_HEADER, Columns
from project.importers.rows import FileError, Note, Row, Source, build_row

MAX_UNPACKED_BYTES = 2**30
"""Maximum size in bytes of an unpacked workbook. A larger one is probably a zip bomb."""
_OLE = b"\xd0\xcf\x11\xe0"
"""First bytes of workbooks before Excel 2007 and of encrypted ones: a Compound File (MS-OFFCRYPTO, 2.3)."""
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_STRICT_NAMESPACE = b"http://purl.oclc.org/ooxml/"
"""Namespace of Strict Open XML (ISO/IEC 29500)."""


@contextmanager
def open_xlsx(file: BinaryIO, columns: Columns, max_unpacked_bytes: int = MAX_UNPACKED_BYTES) -> Iterator[Source]:
    """Open the first visible sheet of a workbook, or the first sheet if none is visible.

    Raises FileError.
    """
    from openpyxl import load_workbook  # noqa: PLC0415 - few processes need it

    _check_workbook(file, max_unpacked_bytes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # openpyxl warns of what it leaves out, such as print areas
        try:
            book = load_workbook(file, read_only=True, data_only=True)
            sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"] or list(book.worksheets)
        except Exception:
            raise FileError("damaged_workbook") from None
        try:
            if not sheets:
                raise FileError("no_sheet")
            yield _open_sheet(sheets, columns)
        finally:
            book.close()


def _check_workbook(file: BinaryIO, max_unpacked_bytes: int) -> None:
    """Raise FileError unless the file is a complete workbook in a supported format."""
    start = file.read(len(_OLE))
    if start == _OLE:
        raise FileError("encrypted_workbook" if _ENCRYPTED in file.read() else "old_workbook")
    file.seek(0)
    try:
        with ZipFile(file) as archive:
            if sum(part.file_size for part in archive.infolist()) > max_unpacked_bytes:
                raise FileError("workbook_too_large", limit=max_unpacked_bytes // 2**20)
            if archive.testzip():  # otherwise damage may be noticed only after it has been read as data
                raise FileError("damaged_workbook")
            if _STRICT_NAMESPACE in archive.read("xl/workbook.xml"):
                raise FileError("strict_workbook")
    except (BadZipFile, KeyError, RuntimeError, NotImplementedError, ValueError):
        raise FileError("not_workbook") from None
    except (zlib.error, EOFError, OSError):
        raise FileError("damaged_workbook") from None
    file.seek(0)


def _open_sheet(sheets: Sequence[Any], columns: Columns) -> Source:
    sheet = sheets[0]
    length = sheet.max_row or 0
    sheet.reset_dimensions()  # some programs write wrong dimensions, and rows would be missing
    notes: tuple[Note, ...] = ()
    if len(sheets) > 1:
        titles = [str(worksheet.title) for worksheet in sheets]
        notes = (Note("several_sheets", {"sheet": titles[0], "others": ", ".join(titles[1:])}),)
    rows = _iter_cells(sheet)
    headers = _find_headers(rows, columns)
    fields, more = columns.map_headers(headers)
    return Source(length, headers, fields, _rows(rows, fields), notes + more)


def _iter_cells(sheet: Any) -> Iterator[tuple[int, tuple[str | bool, ...]]]:
    """Yield the number and cells of each row that is not empty. Raises FileError."""
    rows, number = sheet.iter_rows(values_only=True), 0
    while True:
        try:
            values = next(rows)
        except StopIteration:
            return
        except Exception:
            raise FileError("damaged_row", row=number + 1) from None
        number += 1
        cells = tuple(map(_cell, values))
        if any(str(cell).strip() for cell in cells):
            yield number, cells


def _find_headers(rows: Iterator[tuple[int, tuple[str | bool, ...]]], columns: Columns) -> tuple[str, ...]:
    first: tuple[str, ...] | None = None
    for _, (_number, cells) in zip(range(MAX_ROWS_ABOVE_HEADER), rows, strict=False):
        names = tuple(str(cell).strip() for cell in cells)
        if columns.are_headers(names):
            return names
        first = first or names
    if first is None:
        raise FileError("empty")
    raise columns.explain_missing_headers(first)


def _rows(rows: Iterator[tuple[int, tuple[str | bool, ...]]], fields: tuple[str | None, ...]) -> Iterator[Row]:
    for number, cells in rows:
        row = build_row(number, fields, tuple(map(_cell_text, cells)), number)
        booleans = [field for field, cell in zip(fields, cells, strict=False) if field and isinstance(cell, bool)]
        if booleans and row.refusal is None:  # otherwise TRUE would be taken for a text
            row = replace(row, refusal=ValidationFailedError(tuple(_boolean_error(row, field) for field in booleans)))
        yield row


def _boolean_error(row: Row, field: str) -> FieldError:
    return FieldError(field, "invalid_type", "boolean_cell", {"value": row.body[field]})


def _cell(value: object) -> str | bool:
    """Return a cell as text: dates in ISO 8601, whole numbers as digits. Keeps booleans."""
    match value:
        case None:
            return ""
        case bool():
            return value
        case datetime():
            return (value.date() if value.time() == time() else value).isoformat()
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)


def _cell_text(cell: str | bool) -> str:
    return str(cell).upper() if isinstance(cell, bool) else cell
