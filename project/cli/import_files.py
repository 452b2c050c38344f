"""Files of people to be created: NDJSON, CSV and workbooks, a row at a time, whatever their size."""

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

from project.domain.errors import FIELDS, RefusalError
from project.domain.strict_json import parse_object
from project.domain.text import clean

if TYPE_CHECKING:
    import _csv

ENDINGS = (".ndjson", ".csv", ".xlsx")
MAX_LINE = 16 * 1024
"""Bytes of a line, as many as POST /useradd takes."""
COLUMNS = {
    "имя": "name",
    "логин": "username",
    "телефон": "phone",
    "почта": "email",
    "e-mail": "email",
    "дата рождения": "birth_date",
    "birth date": "birth_date",
} | {name: name for name in FIELDS}
"""Heads of columns, in whatever letter case, and the fields that they mean."""
_PIECE = 1024 * 1024

csv.field_size_limit(MAX_LINE)


class FileError(Exception):
    """The file as a whole cannot be used; the message tells what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one row of a file asks for."""

    number: int
    """As editors and spreadsheets count, from 1."""
    body: dict[str, Any]
    refusal: RefusalError | None
    """Why the row could not even be read."""
    read: int
    """How much of the file is read by now, in the unit of Source.length."""


@dataclass(frozen=True, slots=True)
class Source:
    """An open file: its rows, and how long it is (bytes, or rows of a workbook)."""

    length: int
    rows: Iterator[Row]


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a file by its ending. Raises FileError when it cannot be used, before its first row is handed on."""
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
    """See that the whole file is text before anybody is created from its beginning."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            try:
                decoder.decode(piece)
            except UnicodeDecodeError as error:
                line += piece.count(b"\n", 0, error.start)
                raise FileError(
                    f"Line {line} is not in UTF-8. A file in windows-1251 (Excel's “CSV” on Russian Windows) "
                    f"becomes UTF-8 by: iconv -f windows-1251 -t utf-8 {path.name} > utf8{path.suffix}"
                ) from None
            line += piece.count(b"\n")
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise FileError(f"Line {line} is not in UTF-8: the file ends inside a letter") from None


def _ndjson_rows(file: BinaryIO) -> Iterator[Row]:
    number = read = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        whole = line
        while whole and len(whole) > MAX_LINE and not whole.endswith(b"\n"):
            read += len(whole)
            whole = file.readline(MAX_LINE + 1)
        read += len(whole)
        if len(line) > MAX_LINE:
            yield Row(number, {}, _too_long(), read)
        elif line.removeprefix(codecs.BOM_UTF8).strip():
            try:
                yield Row(number, parse_object(line), None, read)
            except RefusalError as error:
                yield Row(number, {}, error, read)


def _csv_rows(text: TextIO, tell: Callable[[], int]) -> Iterator[Row]:
    head = text.readline()
    delimiter = _delimiter(head)
    columns = _columns(next(csv.reader([head], delimiter=delimiter), []))
    return _csv_bodies(csv.reader(text, delimiter=delimiter), columns, tell)


def _csv_bodies(reader: "_csv.Reader", columns: Sequence[str], tell: Callable[[], int]) -> Iterator[Row]:
    while True:
        number = reader.line_num + 2  # the head is a line, too
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield Row(number, {}, _too_long(), tell())
            continue
        if any(cell.strip() for cell in cells):
            yield Row(number, _body(columns, cells), None, tell())


def _delimiter(head: str) -> str:
    """Excel writes semicolons where a comma stands in numbers, as in Russia."""
    return max(",;\t", key=head.count)


@contextmanager
def _workbook(path: Path) -> Iterator[Source]:
    from openpyxl import load_workbook  # noqa: PLC0415 - the service itself never reads a workbook: keep it out of there
    from openpyxl.utils.exceptions import InvalidFileException  # noqa: PLC0415 - the same

    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, BadZipFile, KeyError, ValueError):
        raise FileError(f"{path} is no workbook of Excel (.xlsx), or a damaged one") from None
    try:
        if not book.worksheets:
            raise FileError(f"{path} has no sheet")
        sheet = book.worksheets[0]
        length = sheet.max_row or 0
        sheet.reset_dimensions()  # programs other than Excel write wrong ones, and rows would be missing
        yield Source(length, _sheet_rows(sheet.iter_rows(values_only=True)))
    finally:
        book.close()


def _sheet_rows(rows: Iterable[Sequence[Any]]) -> Iterator[Row]:
    numbered = enumerate(rows, start=1)
    _, head = next(numbered, (0, ()))
    columns = _columns(["" if cell is None else str(cell) for cell in head])
    return _sheet_bodies(numbered, columns)


def _sheet_bodies(numbered: Iterable[tuple[int, Sequence[Any]]], columns: Sequence[str]) -> Iterator[Row]:
    for number, cells in numbered:
        values = [_cell(cell) for cell in cells]
        if any(values):
            yield Row(number, _body(columns, values), None, number)


def _cell(value: object) -> str:
    """Return what stands in a cell: a date as ISO 8601 has it, a phone that became a number as its digits."""
    match value:
        case None:
            return ""
        case datetime():
            return value.date().isoformat()
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value).strip()


def _columns(head: Iterable[str]) -> list[str]:
    """Return the fields of the columns, "" for one without a head."""
    names = [" ".join(name.strip().lower().replace("_", " ").split()) for name in head]
    while names and not names[-1]:
        names.pop()
    known = {name.replace("_", " "): field for name, field in COLUMNS.items()}
    columns = [known.get(name, "") for name in names]
    unknown = [clean(name, 40) for name, column in zip(names, columns, strict=True) if name and not column]
    if unknown or not {"name", "username"} <= set(columns):
        wrong = f"Unknown columns: {', '.join(unknown)}." if unknown else "The first line has to name the columns."
        raise FileError(
            f"{wrong} Known are name/имя, username/логин, phone/телефон, email/почта, birth_date/дата рождения"
        )
    named = list(filter(None, columns))
    if len(set(named)) < len(named):
        raise FileError("The same column stands there twice")
    return columns


def _body(columns: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    """Return what stands in a row; a cell beyond the columns is a field that nobody knows, and is refused as such."""
    named = zip_longest(columns, cells, fillvalue="")
    return {name or f"column {place}": cell for place, (name, cell) in enumerate(named, start=1) if cell.strip()}


def _too_long() -> RefusalError:
    return RefusalError("body_too_large", limit=MAX_LINE // 1024)
