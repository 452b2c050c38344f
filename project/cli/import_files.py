"""Reads import files (NDJSON, CSV, XLSX) row by row, so that they may have any size."""

import codecs
import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO
from zipfile import BadZipFile

from project.domain.errors import RefusalError
from project.domain.names import find_field
from project.domain.strict_json import parse_object
from project.domain.text import clean

if TYPE_CHECKING:
    import _csv

SUFFIXES = (".ndjson", ".csv", ".xlsx")
MAX_LINE = 16 * 1024
"""Maximum length of a line in bytes, the same as of the body of POST /useradd."""
_CHUNK = 1024 * 1024

csv.field_size_limit(MAX_LINE)


class FileError(Exception):
    """The whole file cannot be imported; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of an import file, with the data of a user to create."""

    number: int
    """Number of the line or row, from 1, as editors and spreadsheets show it."""
    body: dict[str, Any]
    refusal: RefusalError | None
    """The reason why the row could not be parsed, otherwise None."""
    read: int
    """Amount of the file read so far, in the unit of Source.length."""


@dataclass(frozen=True, slots=True)
class Source:
    """An open import file: its rows, and its length in bytes (a workbook: in rows)."""

    length: int
    rows: Iterator[Row]


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open an import file in the format of its suffix. Raises FileError before the first row."""
    try:
        if path.suffix.lower() == ".xlsx":
            with _workbook(path) as source:
                yield source
            return
        _check_utf8(path)
        if path.suffix.lower() == ".csv":
            with path.open("rb") as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
                yield Source(path.stat().st_size, _csv_rows(text, file.tell))
        else:
            with path.open("rb") as lines:
                yield Source(path.stat().st_size, _ndjson_rows(lines))
    except OSError as error:
        raise FileError(f"{error.filename or path}: {error.strerror or error}") from None


def _check_utf8(path: Path) -> None:
    """Raise FileError if any part of the file is not UTF-8, before a user is created."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                line += chunk.count(b"\n", 0, error.start)
                raise FileError(
                    f"Line {line} is not in UTF-8. A file in windows-1251 (Excel's “CSV” on Russian Windows) "
                    f"can be converted by: iconv -f windows-1251 -t utf-8 {path.name} > utf8{path.suffix}"
                ) from None
            line += chunk.count(b"\n")
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise FileError(f"Line {line} is not in UTF-8: the file ends inside a character") from None


def _ndjson_rows(file: BinaryIO) -> Iterator[Row]:
    number = read = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        part = line
        while part and len(part) > MAX_LINE and not part.endswith(b"\n"):
            read += len(part)
            part = file.readline(MAX_LINE + 1)
        read += len(part)
        if len(line) > MAX_LINE:
            yield Row(number, {}, _too_long(), read)
        elif line.removeprefix(codecs.BOM_UTF8).strip():
            try:
                yield Row(number, parse_object(line), None, read)
            except RefusalError as error:
                yield Row(number, {}, error, read)


def _csv_rows(text: TextIO, tell: Callable[[], int]) -> Iterator[Row]:
    header = text.readline()
    delimiter = max(",;\t", key=header.count)  # Excel writes semicolons in locales with a decimal comma
    columns = _columns(next(csv.reader([header], delimiter=delimiter), []))
    return _csv_bodies(csv.reader(text, delimiter=delimiter), columns, tell)


def _csv_bodies(reader: "_csv.Reader", columns: Sequence[str], tell: Callable[[], int]) -> Iterator[Row]:
    while True:
        number = reader.line_num + 2  # line_num does not include the header
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield Row(number, {}, _too_long(), tell())
            continue
        if any(cell.strip() for cell in cells):
            yield Row(number, _body(columns, cells), None, tell())


@contextmanager
def _workbook(path: Path) -> Iterator[Source]:
    from openpyxl import load_workbook  # noqa: PLC0415 - the service never needs it
    from openpyxl.utils.exceptions import InvalidFileException  # noqa: PLC0415 - the same

    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, BadZipFile, KeyError, ValueError):
        raise FileError(f"{path} is not an Excel workbook (.xlsx), or damaged") from None
    try:
        if not book.worksheets:
            raise FileError(f"{path} has no sheet")
        sheet = book.worksheets[0]
        length = sheet.max_row or 0
        sheet.reset_dimensions()  # some programs write wrong dimensions, and rows would be missing
        yield Source(length, _sheet_rows(sheet.iter_rows(values_only=True)))
    finally:
        book.close()


def _sheet_rows(rows: Iterable[Sequence[Any]]) -> Iterator[Row]:
    numbered = enumerate(rows, start=1)
    _, header = next(numbered, (0, ()))
    columns = _columns(["" if cell is None else str(cell) for cell in header])
    return _sheet_bodies(numbered, columns)


def _sheet_bodies(numbered: Iterable[tuple[int, Sequence[Any]]], columns: Sequence[str]) -> Iterator[Row]:
    for number, cells in numbered:
        values = [_cell(cell) for cell in cells]
        if any(values):
            yield Row(number, _body(columns, values), None, number)


def _cell(value: object) -> str:
    """Return a cell as text: dates in ISO 8601; numbers, which may be phone numbers, as digits."""
    match value:
        case None:
            return ""
        case datetime():
            return value.date().isoformat()
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value).strip()


def _columns(header: Iterable[str]) -> list[str]:
    """Return the field of each column, "" for a column without name. Raises FileError."""
    names = [" ".join(name.split()) for name in header]
    while names and not names[-1]:
        names.pop()
    columns = [find_field(name) or "" for name in names]
    unknown = [clean(name, 40) for name, column in zip(names, columns, strict=True) if name and not column]
    if unknown or not {"name", "username"} <= set(columns):
        problem = f"Unknown columns: {', '.join(unknown)}." if unknown else "The first line must name the columns."
        raise FileError(
            f"{problem} Known columns: name/имя, username/логин, phone/телефон, email/почта, birth_date/дата рождения"
        )
    named = list(filter(None, columns))
    if len(set(named)) < len(named):
        raise FileError("The same column occurs twice")
    return columns


def _body(columns: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a row; cells in columns without name become unknown fields."""
    named = zip_longest(columns, cells, fillvalue="")
    return {name or f"column {number}": cell for number, (name, cell) in enumerate(named, start=1) if cell.strip()}


def _too_long() -> RefusalError:
    return RefusalError("body_too_large", limit=MAX_LINE // 1024)
