"""Value types of import files: files, rows, errors and notes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from project.domain.errors import NO_PARAMS, FieldError, Params, RefusalError, ValidationFailedError

MAX_LINE_LENGTH = 16 * 1024
"""Maximum length of a line without its line break, in characters (CSV) or bytes (NDJSON): the limit for the body of
POST /useradd."""
ERROR_CELLS = frozenset(
    {
        *("#N/A", "#REF!", "#NAME?", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!", "#SPILL!", "#CALC!", "#GETTING_DATA"),
        *("#Н/Д", "#ССЫЛКА!", "#ИМЯ?", "#ЗНАЧ!", "#ДЕЛ/0!", "#ЧИСЛО!", "#ПУСТО!", "#ПЕРЕНОС!", "#ВЫЧИСЛ!"),
    }
)
"""Texts that spreadsheets show, and write to CSV, if a formula has no value."""


class FileError(Exception):
    """Raised if a file cannot be read at all, or not to its end.

    `params` fill the message of the code, which is in project/contract/import_texts.py.
    """

    def __init__(self, code: str, **params: str | int) -> None:
        super().__init__(code)
        self.code = code
        self.params = params


@dataclass(frozen=True, slots=True)
class Note:
    """A warning about a readable file. As for FileError, the code has a message."""

    code: str
    params: Params = field(default_factory=lambda: NO_PARAMS)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of an import file, with the data of a user to create."""

    number: int
    """Number of the line or row from 1, as editors and spreadsheets show it."""
    cells: tuple[str, ...]
    """Texts of the cells; of NDJSON one for each of FIELDS, "" if absent or null. Empty if a CSV line is too long."""
    body: dict[str, Any]
    """The row as a request body of POST /useradd; empty if a line is too long or is refused as NDJSON."""
    refusal: RefusalError | None
    """The reason why the row is refused before its fields are validated; None if there is none."""
    position: int
    """Amount of the file read so far, in the unit of Source.length."""


@dataclass(frozen=True, slots=True)
class Source:
    """An open import file. Iterating over its rows raises FileError if the file is damaged."""

    length: int
    """Length of the file in bytes, or of a workbook in rows as it declares them; 0 if it does not."""
    headers: tuple[str, ...]
    """The headers of the columns in the file; FIELDS for NDJSON."""
    fields: tuple[str | None, ...]
    """The field of each column; "" for a column without a header, None for an ignored column."""
    rows: Iterator[Row]
    notes: tuple[Note, ...] = ()


def build_row(
    number: int, fields: tuple[str | None, ...], cells: tuple[str, ...], position: int, separator: str = ""
) -> Row:
    """Build a row from the cells of a table. Cells without a header become unknown fields.

    Omits blank cells and ignored columns, and refuses a row with ERROR_CELLS. `separator` is the delimiter of a CSV
    file, or "" to accept more cells than headers as unknown fields. If its row has cells beyond the headers that are
    not blank, only this is reported: a value probably contains the delimiter, so that the other cells are in wrong
    columns, too.
    """
    body: dict[str, Any] = {}
    for index, cell in enumerate(cells):
        if cell.strip() and (index >= len(fields) or fields[index] is not None):
            body[(fields[index] if index < len(fields) else "") or f"column {index + 1}"] = cell
    errors = tuple(
        FieldError(field, "invalid_type", "error_cell", {"value": value.strip()})
        for field, value in body.items()
        if isinstance(value, str) and value.strip() in ERROR_CELLS
    )
    if separator and any(map(str.strip, cells[len(fields) :])):
        params: Params = {"cells": len(cells), "headers": len(fields), "separator": separator}
        errors = (FieldError(f"column {len(fields) + 1}", "unknown_field", "extra_cell", params),)
    return Row(number, cells, body, ValidationFailedError(errors) if errors else None, position)


def line_too_long_error() -> RefusalError:
    """Return the refusal for a line that exceeds MAX_LINE_LENGTH."""
    return RefusalError("body_too_large", "line", limit=MAX_LINE_LENGTH // 1024)
