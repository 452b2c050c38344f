"""Messages about unreadable import files and refused rows, and the table of refused rows."""

from collections.abc import Mapping, Sequence

from flask_babel import lazy_gettext as _

from project.contract.error_codes import FIELD_LABELS, message_text, refusal_text
from project.domain.errors import RefusalError
from project.domain.imports import ImportRun
from project.http.translations import gettext
from project.importers import REMARK_HEADERS, FileError, Note, Row, Source, is_remark_header

_("What to fix")  # marks REMARK_HEADERS[0] as translatable for pybabel
KNOWN_COLUMNS = "name/имя, username/логин, phone/телефон, email/почта, birth_date/дата рождения"
FILE_TEXTS: Mapping[str, str] = {
    "unknown_format": _("The name of the file must end in one of: %(suffixes)s."),
    "old_workbook": _("This is a workbook of an old Excel (.xls). Save it as .xlsx."),
    "encrypted_workbook": _("The workbook is protected by a password. Save it without one."),
    "strict_workbook": _("The workbook is a Strict Open XML Spreadsheet. Save it as “Excel Workbook (.xlsx)”."),
    "not_workbook": _("This is not an Excel workbook (.xlsx), or it is damaged. Open it in Excel and save it again."),
    "damaged_workbook": _("The workbook is damaged. Open it in Excel and save it again."),
    "damaged_row": _("The workbook is damaged at row %(row)s. Open it in Excel and save it again."),
    "workbook_too_large": _("The workbook unpacks to more than %(limit)s MB."),
    "no_sheet": _("The workbook has no sheet."),
    "not_text": _("This is an Excel workbook: rename the file so that its name ends in .xlsx."),
    "not_utf8": _("Line %(line)s is not in UTF-8. In Excel, save the file as “CSV UTF-8”."),
    "encoding": _(
        "Line %(line)s is not in UTF-8; it looks like %(encoding)s. In Excel, save the file as “CSV UTF-8”; "
        "elsewhere convert it: iconv -f %(encoding)s -t UTF-8 FILE"
    ),
    "cut_character": _("Line %(line)s is not in UTF-8: the file ends inside a character."),
    "array": _(
        "The file is a JSON array. Write one user a line, without brackets and commas between them: jq -c '.[]' FILE"
    ),
    "wrapped_list": _(
        "The users are a list inside the field “%(key)s”. Write one user a line, without the list around them: "
        "jq -c '.[\"%(key)s\"][]' FILE"
    ),
    "empty": _("The file is empty."),
    "no_rows": _("The file has no rows with users."),
    "too_many_rows": _("The file has more than %(limit)s rows. Divide it, or use the command flask users import."),
    "no_heads": _("The first row must name the columns. Known names: %(known)s."),
    "missing_columns": _("The row that names the columns has no: %(names)s. Add it. Known names: %(known)s."),
    "unknown_columns": _(
        "Unknown columns: %(names)s. Rename or remove them, or ignore them (--ignore-unknown). Known: %(known)s."
    ),
    "unknown_columns_of_upload": _(
        "Unknown columns: %(names)s. Rename or remove them, or tick “Ignore columns with unknown names”. "
        "Known: %(known)s."
    ),
    "repeated_column": _(
        "Two columns mean the same field %(field)s: “%(first)s” and “%(second)s”. Rename or remove one of them."
    ),
    "unreadable": _("The file cannot be read: %(cause)s."),
    "ignored_columns": _("Ignored columns: %(names)s."),
    "several_sheets": _("The workbook has several sheets: only “%(sheet)s” is read, not %(others)s."),
}


def file_text(about: FileError | Note) -> str:
    """Return the message of an error or note about a file, in the current language."""
    return str(FILE_TEXTS[about.code]) % {"known": KNOWN_COLUMNS, **about.params}


def describe_refused_row(number: int, error: RefusalError, headers: Mapping[str, str]) -> str:
    """Return a message with the number of a refused row and its errors.

    `headers` maps a field to the header of its column.
    """
    texts = [f"{column_label(cause.field, headers)}: {message_text(cause)}" for cause in error.errors]
    texts = texts or [refusal_text(error)]
    return gettext("Row %(number)s.", number=number) + " " + " ".join(texts)


def column_label(field: str, headers: Mapping[str, str]) -> str:
    """Return the header of a field's column, or else the label of the field."""
    return " ".join(headers.get(field, "").split()) or str(FIELD_LABELS.get(field, field))


def refused_headers(source: Source) -> tuple[str, ...]:
    """Return the headers for a table of refused rows: those of the file, and `What to fix`."""
    return (*_without_remarks(source, source.headers), gettext(REMARK_HEADERS[0]))


def refused_cells(source: Source, row: Row, refusal: RefusalError) -> tuple[str, ...]:
    """Return a refused row of the table with refused_headers(); cells without header are last."""
    width = len(source.headers)
    cells = row.cells[:width] + ("",) * (width - len(row.cells))
    headers = {field: header for field, header in zip(source.fields, source.headers, strict=False) if field}
    return (*_without_remarks(source, cells), describe_refused_row(row.number, refusal, headers), *row.cells[width:])


def cells_and_messages(
    source: Source, cells: Sequence[str], refusal: RefusalError
) -> tuple[list[tuple[str, bool]], list[tuple[str, str]]]:
    """Return the cells of a refused row and the messages about the row.

    A cell is a pair of its text and whether it is wrong. A message is a pair of the header of a column and a text; the
    header is "" if the message is about the whole row. The column `What to fix` of an earlier download is left out.
    """
    headers = {field: header for field, header in zip(source.fields, source.headers, strict=False) if field}
    wrong = {error.field for error in refusal.errors}
    fields = (*source.fields, *[""] * len(cells))
    padded = (*cells, *[""] * (len(source.headers) - len(cells)))
    marked = [
        (cell, (fields[index] or f"column {index + 1}") in wrong)
        for index, cell in enumerate(padded)
        if index >= len(source.headers) or not is_remark_header(source.headers[index])
    ]
    if not refusal.errors:
        return marked, [("", refusal_text(refusal))]
    return marked, [(column_label(error.field, headers), message_text(error)) for error in refusal.errors]


def stored_source(run: ImportRun) -> Source:
    """Return a source with the columns of a stored import, but without its rows."""
    return Source(0, run.headers, run.fields, iter(()))


def _without_remarks(source: Source, cells: Sequence[str]) -> list[str]:
    """Return the cells without the column `What to fix`, which an earlier download has added."""
    return [cell for header, cell in zip(source.headers, cells, strict=True) if not is_remark_header(header)]
