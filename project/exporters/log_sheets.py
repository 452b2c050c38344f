"""Exports attempts as sheets, as many as needed. XlsxWriter creates all but the rows."""

import re
from typing import Any
from xml.sax.saxutils import escape

from project.domain.attempts import CREATED, Outcome
from project.domain.lines import Column, Layout, Value
from project.domain.reports import Report
from project.exporters import summary
from project.exporters.cells import put_text, truncated
from project.exporters.styles import Styles, put_heads, set_up_table
from project.exporters.translations import Translations

MAX_ROWS = 1_048_575
"""Excel's limit of rows per sheet, less the header."""

WIDTHS = (19, 13, 8, 23, 36, 22, 24, 18, 22, 12, 40)
LAST_COLUMN = len(WIDTHS) - 1
LAST_PRINTED = 8
"""Index of the column E-mail. With the two columns after it, the print would be too small to read."""

_TEXT, _STATUS, _NUMBER, _ID = "\x01", "\x02", "\x03", "\x04"
"""Separators in raw lines."""
_SAMPLE_ROW = 1
"""The row below the header. XlsxWriter writes it with the column styles; the rows of attempts replace it."""
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")
_SPECIAL = b"&<>\xef"
"""0xEF is the first byte of U+FFFE and U+FFFF, which XML forbids, and of few other characters."""
_ESCAPE = "_x[0-9A-Fa-f]{4}_"
_LITERAL = re.compile(f"(?={_ESCAPE})")


def add(workbook: Any, rows: int, translations: Translations, styles: Styles, rows_per_sheet: int) -> list[int]:
    """Add the sheets `Requests`, `Requests 2` and so on; return the number of rows of each."""
    sizes = [min(rows_per_sheet, rows - first) for first in range(0, rows, rows_per_sheet)] or [0]
    for number, size in enumerate(sizes, start=1):
        _add_sheet(workbook, number, size, translations, styles)
    return sizes


def _add_sheet(workbook: Any, number: int, rows: int, translations: Translations, styles: Styles) -> None:
    _ = translations.gettext
    sheet = workbook.add_worksheet(_("Requests") if number == 1 else f"{_('Requests')} {number}")
    heads = summary.log_heads(translations)
    set_up_table(sheet, WIDTHS, heads)
    put_heads(sheet, 0, heads, styles)
    put_text(sheet, 0, 9, heads[9], styles.head_right)
    put_text(sheet, 0, 10, heads[10], styles.head_indented)
    text = styles.text
    columns = (styles.moment, text, styles.status, *[text] * 6, styles.number, styles.indented)
    for column, style in enumerate(columns):
        sheet.write_blank(_SAMPLE_ROW, column, None, style)
    sheet.autofilter(0, 0, rows, LAST_COLUMN)
    sheet.print_area(0, 0, rows, LAST_PRINTED)
    sheet.ignore_errors({"number_stored_as_text": f"A1:K{rows + 1}"})
    if not rows:
        return
    # Status 0: the process died before it responded.
    rejected, failed = "=AND($C2>=400,$C2<500)", "=OR($C2=0,$C2>=500)"
    for rule, style in ((rejected, styles.rejected), (failed, styles.failed)):
        sheet.conditional_format(1, 1, rows, 2, {"type": "formula", "criteria": rule, "format": style})


def split(sheet: str, rows: int) -> tuple[bytes, bytes, list[str]]:
    """Return the XML of a sheet before and after the rows, and the style of each column."""
    head, _, rest = sheet.partition(f'<row r="{_SAMPLE_ROW + 1}"')
    sample, end, tail = rest.partition("</sheetData>")
    head = re.sub(r'<dimension ref="[^"]*"/>', f'<dimension ref="A1:K{rows + 1}"/>', head)
    return head.encode(), (end + tail).encode(), re.findall(r' s="(\d+)"', sample)


def layout(report: Report, translations: Translations, styles: list[str]) -> Layout:
    """Return the layout of the rows of attempts.

    A row has no gaps, so its cells need no references (ECMA-376 Part 1, 18.3.1.4 and 18.3.1.73).
    """
    outcomes = summary.log_outcomes(translations)
    moment, text, status, number, indented = (styles[column] for column in (0, 1, 2, 9, 10))
    between = "</v></c>"
    return Layout(
        columns=(
            Column(Value.SERIAL_TIME),
            Column(lambda status, _code: _xml(outcomes[Outcome.of(status)]), _TEXT),
            Column(lambda status, _code: str(status), _STATUS),
            Column(lambda _status, code: "" if code == CREATED else _xml(code), _TEXT),
            Column(lambda _status, code: "" if code == CREATED else _xml(translations.reason(code)), _TEXT),
            Column(Value.USERNAME, _TEXT),
            Column(Value.NAME, _TEXT),
            Column(Value.PHONE, _TEXT),
            Column(Value.EMAIL, _TEXT),
            Column(Value.DURATION, _NUMBER),
            Column(Value.ID, _ID),
        ),
        prefix=f'<row><c s="{moment}"><v>',
        separators={
            _TEXT: f'{between}<c s="{text}" t="str"><v>',
            _STATUS: f'{between}<c s="{status}"><v>',
            _NUMBER: f'{between}<c s="{number}"><v>',
            _ID: f'{between}<c s="{indented}" t="str"><v>',
        },
        suffix=f"{between}</row>",
        special=_SPECIAL,
        unsafe=re.compile(_ESCAPE),
        hints=(re.compile(_ESCAPE.encode()),),
        escape=lambda _value, value: _xml(value),
        blank=(f'<c s="{text}" t="str"><v></v></c>', "<c/>"),
        zone=report.zone,
        kinds=report.kinds,
    )


def _xml(text: str) -> str:
    """Escape text for XML; forbidden characters become `_xHHHH_` (ECMA-376 Part 1, 22.9.2.19)."""
    literal = _LITERAL.sub("_x005F", truncated(text))
    return escape(_FORBIDDEN.sub(lambda match: f"_x{ord(match[0]):04X}_", literal))
