"""Exports a .csv file (RFC 4180) whose columns have the field names of the JSON API.

An apostrophe is written before values that look like formulas, because spreadsheets open the file, too. Programs that
need the values as they were sent request the raw file.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from project.domain.attempts import Outcome
from project.domain.lines import CONCAT_SEPARATOR, Column, LabelFunction, Layout, ReadLines, Value
from project.domain.reports import CountAttempts, Report
from project.exporters import formulas
from project.exporters.translations import Heading, Translations

COMMA, LINE_END = ",", "\r\n"
_BEFORE_MESSAGES = "\x03"
"""Separator before the messages about invalid fields in raw lines."""
_COLUMNS: dict[str, Value | LabelFunction] = {
    "id": Value.ID,
    "received_at": Value.ISO_TIME,
    "outcome": lambda status, _code: Outcome.of(status).value,
    "status": lambda status, _code: str(status),
    "answered": Value.ANSWERED,
    "code": Value.CODE,
    "username": Value.USERNAME,
    "name": Value.NAME,
    "phone": Value.PHONE,
    "email": Value.EMAIL,
    "duration_ms": Value.DURATION,
    "via": Value.VIA,
    "errors": Value.ERRORS,
    "what_to_fix": Value.MESSAGES,
}
_QUOTED = re.compile(r'[",\r\n]')
_FORMULA = re.compile(formulas.UNSAFE)


def stream(
    count: CountAttempts, lines: ReadLines, _heading: Heading, translations: Translations, *, raw: bool = False
) -> Iterator[bytes]:
    """Yield a CSV file in parts: the header before attempts are counted, then blocks of rows.

    Formulas get an apostrophe unless `raw` is set.
    """
    yield (COMMA.join(_COLUMNS) + LINE_END).encode()
    for block in lines(layout(count(), translations, raw=raw)):
        yield block.content


def layout(report: Report, translations: Translations, *, raw: bool = False) -> Layout:
    """Return the layout of a row. Formulas get an apostrophe unless `raw` is set."""
    separators = dict.fromkeys(_COLUMNS.values(), CONCAT_SEPARATOR) | {
        Value.ID: "",
        Value.PHONE: formulas.PHONE_SEPARATOR,
        Value.MESSAGES: CONCAT_SEPARATOR + _BEFORE_MESSAGES,
    }
    raw_layout = Layout(
        columns=tuple(Column(value, separators[value]) for value in _COLUMNS.values()),
        separators={CONCAT_SEPARATOR: COMMA, "\x02": "", _BEFORE_MESSAGES: ""},
        suffix=LINE_END,
        special=b'",',
        escape=lambda _value, text: _quote(text),
        before_messages=_BEFORE_MESSAGES,  # many contain a comma
        zone=report.zone,
        kinds=report.kinds,
        messages=translations.messages,
    )
    if raw:
        return raw_layout
    return replace(
        raw_layout, unsafe=_FORMULA, lead_bytes=formulas.LEAD_BYTES, hints=formulas.HINTS, escape=_escape_cell
    )


def _escape_cell(value: Value, text: str) -> str:
    return _quote(formulas.escape_formula(text, is_phone=value is Value.PHONE))


def _quote(text: str) -> str:
    return '"{}"'.format(text.replace('"', '""')) if _QUOTED.search(text) else text
