"""Exports .csv files for programs: RFC 4180, field names of the JSON API, unchanged values.

Formulas are not escaped: programs must get the values that were sent. For spreadsheets there are .txt and .xlsx.
"""

import re
from collections.abc import Iterator

from project.domain.attempts import Outcome
from project.domain.lines import Column, Label, Layout, Lines, Value
from project.domain.reports import CountAttempts, Report
from project.exporters.translations import Heading, Translations

COMMA, LINE = ",", "\r\n"
_COLUMNS: dict[str, Value | Label] = {
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
}
_QUOTED = re.compile(r'[",\r\n]')


def stream(count: CountAttempts, lines: Lines, _heading: Heading, _translations: Translations) -> Iterator[bytes]:
    """Yield the header before attempts are counted, then the rows in blocks."""
    yield (COMMA.join(_COLUMNS) + LINE).encode()
    for block in lines(layout(count())):
        yield block.content


def layout(report: Report) -> Layout:
    return Layout(
        columns=tuple(Column(value, COMMA if index else "") for index, value in enumerate(_COLUMNS.values())),
        separators={COMMA: COMMA},
        suffix=LINE,
        special=b'",',
        escape=lambda _value, text: _cell(text),
        zone=report.zone,
        kinds=report.kinds,
    )


def _cell(text: str) -> str:
    return '"{}"'.format(text.replace('"', '""')) if _QUOTED.search(text) else text
