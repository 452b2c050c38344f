"""Exports the sheets of attempts: XlsxWriter creates them empty, rows are inserted later."""

import re
from typing import Any
from xml.sax.saxutils import escape

from project.domain.attempts import CREATED, Outcome
from project.domain.lines import CONCAT_SEPARATOR, Column, LabelFunction, Layout, Value
from project.domain.reports import Report
from project.exporters import summary
from project.exporters.cells import put_text, truncate
from project.exporters.styles import Styles, put_headers, set_up_table
from project.exporters.translations import Heading, Translations

MAX_ROWS = 1_048_575
"""Excel's limit of rows per sheet, minus the header."""

WIDTHS = (19, 13, 8, 23, 36, 22, 24, 18, 22, 60, 12, 40)
LAST_COLUMN = len(WIDTHS) - 1
COLUMNS = "ABCDEFGHIJKL"
LAST_PRINTED = 9
"""Index of the last printed column, What to fix. With the two columns after it, the printed text would be too small."""

ROW_NUMBER, ROW_END = "\x1d", "\x1c"
"""Placeholders in formatted lines: number_rows() replaces ROW_NUMBER by the number of the row, and removes ROW_END."""
_SEPARATORS = "\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f"
"""Characters that follow CONCAT_SEPARATOR in raw lines, one for each column after the first: they are replaced by the
XML between two cells, which contains the letter of the column."""
_BLANK_SEPARATORS = {3: "\x10", 4: "\x11", 9: "\x12"}
"""Index of a column that is often empty -> separator before an empty value. The file has no cell for such a value."""
_NUMBER_COLUMNS = "ACK"
"""Columns with numbers: time, status, response time."""
_SENT_COLUMNS = "FGHI"
"""Columns with values as clients sent them, perhaps with blanks at the edges."""
_SAMPLE_ROW = 1
"""Index of the row below the header. XlsxWriter writes it with the column styles; the rows of attempts replace it."""
_FORBIDDEN_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")
_SPECIAL = b"&<>\xef"
"""Bytes that must be escaped. The last one is the first byte of U+FFFE and U+FFFF, which XML forbids."""
MAX_SHEET_NAME_LENGTH = 31
_ESCAPE = "_x[0-9A-Fa-f]{4}_"
_FORBIDDEN_IN_NAMES = re.compile(rf"[\[\]:*?/\\']|[^\w\s.,…-]|(?={_ESCAPE})_")
"""Matches characters to replace by blanks in names of sheets. They include the first underscore of `_x002F_`: Excel
would decode it, and refuse a workbook with `/` in such a name."""
_LITERAL = re.compile(f"(?={_ESCAPE})")


def add_sheets(
    workbook: Any, rows: int, heading: Heading, translations: Translations, styles: Styles, rows_per_sheet: int
) -> list[int]:
    """Add the sheets `Requests`, `Requests 2` and so on; return the number of rows of each."""
    sizes = [min(rows_per_sheet, rows - first) for first in range(0, rows, rows_per_sheet)] or [0]
    for number, size in enumerate(sizes, start=1):
        _add_sheet(workbook, _sheet_name(number, heading, translations), size, translations, styles)
    return sizes


def _sheet_name(number: int, heading: Heading, translations: Translations) -> str:
    """Return a name such as `Requests, rejected 2`. Excel allows at most 31 UTF-16 code units."""
    _ = translations.gettext
    ending = "" if number == 1 else f" {number}"
    words = _FORBIDDEN_IN_NAMES.sub(" ", ", ".join(filter(None, (_("Requests"), heading.selected)))).split()
    name = " ".join(words).rstrip(" ,")
    return truncate(name, MAX_SHEET_NAME_LENGTH - len(ending)) + ending


def _add_sheet(workbook: Any, name: str, rows: int, translations: Translations, styles: Styles) -> None:
    sheet = workbook.add_worksheet(name)
    headers = summary.attempt_headers(translations)
    set_up_table(sheet, WIDTHS, headers)
    put_headers(sheet, 0, headers, styles)
    put_text(sheet, 0, 10, headers[10], styles.header_right)
    put_text(sheet, 0, 11, headers[11], styles.header_indented)
    text = styles.text
    columns = (styles.moment, text, styles.status, *[text] * 7, styles.number, styles.indented)
    for column, style in enumerate(columns):
        sheet.write_blank(_SAMPLE_ROW, column, None, style)
    sheet.autofilter(0, 0, rows, LAST_COLUMN)
    sheet.print_area(0, 0, rows, LAST_PRINTED)
    sheet.ignore_errors({"number_stored_as_text": f"A1:{COLUMNS[-1]}{rows + 1}"})
    if not rows:
        return
    # Status 0: the process died before it responded.
    rejected, failed = "=AND($C2>=400,$C2<500)", "=OR($C2=0,$C2>=500)"
    for rule, style in ((rejected, styles.rejected), (failed, styles.failed)):
        sheet.conditional_format(1, 1, rows, 2, {"type": "formula", "criteria": rule, "format": style})


def split_sheet(sheet: str, rows: int) -> tuple[bytes, bytes, list[str]]:
    """Return the XML of a sheet before and after the rows, and the style of each column."""
    head, _, rest = sheet.partition(f'<row r="{_SAMPLE_ROW + 1}"')
    sample, end, tail = rest.partition("</sheetData>")
    head = re.sub(r'<dimension ref="[^"]*"/>', f'<dimension ref="A1:{COLUMNS[-1]}{rows + 1}"/>', head)
    return head.encode(), (end + tail).encode(), re.findall(r' s="(\d+)"', sample)


def layout(report: Report, translations: Translations, styles: list[str]) -> Layout:
    """Return the layout of the rows of attempts.

    Rows and cells have references (`r="A2"`), which are optional in ECMA-376 Part 1, 18.3.1.4 and 18.3.1.73, but needed
    by many programs that read workbooks.
    """
    outcomes = summary.outcome_labels(translations)
    values: tuple[Value | LabelFunction, ...] = (
        Value.SERIAL_TIME,
        lambda status, _code: _escape_xml(outcomes[Outcome.of(status)]),
        lambda status, _code: str(status),
        lambda _status, code: "" if code == CREATED else _escape_xml(code),
        lambda _status, code: "" if code == CREATED else _escape_xml(translations.reason(code)),
        *(Value.USERNAME, Value.NAME, Value.PHONE, Value.EMAIL, Value.MESSAGES, Value.DURATION, Value.ID),
    )
    starts = [_cell_start(*cell) for cell in zip(COLUMNS, styles, strict=True)]
    return Layout(
        columns=tuple(_column(index, value) for index, value in enumerate(values)),
        prefix=f'<row r="{ROW_NUMBER}">{starts[0]}',
        separators={CONCAT_SEPARATOR: ""}
        | {mark: f"</v></c>{start}" for mark, start in zip(_SEPARATORS, starts[1:], strict=True)},
        suffix=f"</v></c></row>{ROW_END}",
        special=_SPECIAL,
        unsafe=re.compile(_ESCAPE),
        hints=(re.compile(_ESCAPE.encode()),),
        escape=lambda _value, value: _escape_xml(value),
        zone=report.zone,
        kinds=report.kinds,
        messages=translations.messages,
    )


def _column(index: int, value: Value | LabelFunction) -> Column:
    if index == 0:
        return Column(value)
    return Column(
        value,
        CONCAT_SEPARATOR + _SEPARATORS[index - 1],
        CONCAT_SEPARATOR + _BLANK_SEPARATORS[index] if index in _BLANK_SEPARATORS else "",
    )


def _cell_start(column: str, style: str) -> str:
    kind = "" if column in _NUMBER_COLUMNS else ' t="str"'
    # Without this attribute, spreadsheets drop blanks at the edges.
    space = ' xml:space="preserve"' if column in _SENT_COLUMNS else ""
    return f'<c r="{column}{ROW_NUMBER}" s="{style}"{kind}><v{space}>'


def number_rows(content: bytes, first: int) -> bytes:
    """Insert the row numbers, from `first` on, into formatted rows."""
    *rows, _end = content.split(ROW_END.encode())
    mark = ROW_NUMBER.encode()
    return b"".join([row.replace(mark, b"%d" % number) for number, row in enumerate(rows, first)])


def _escape_xml(text: str) -> str:
    """Escape text for XML; forbidden characters become `_xHHHH_` (ECMA-376 Part 1, 22.9.2.19)."""
    literal = _LITERAL.sub("_x005F", truncate(text))
    return escape(_FORBIDDEN_CHARACTERS.sub(lambda match: f"_x{ord(match[0]):04X}_", literal))
