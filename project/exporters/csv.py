"""The .csv file for programs: RFC 4180, the field names of the JSON API, values as they are.

Nothing guards against formulas here: a program must get `=1+1` when `=1+1` was sent. People get .txt or .xlsx.
"""

import re
from collections.abc import Iterator

from project.domain.attempts import Outcome
from project.domain.lines import Column, Label, Layout, Lines, Value
from project.domain.reports import Count, Report
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


def stream(count: Count, lines: Lines, _heading: Heading, _translations: Translations) -> Iterator[bytes]:
    """Yield the head at once, then the rows in blocks."""
    yield (COMMA.join(_COLUMNS) + LINE).encode()
    for block in lines(layout(count())):
        yield block.content


def layout(report: Report) -> Layout:
    """Return how an attempt is one line."""
    return Layout(
        columns=tuple(Column(shown, COMMA if number else "") for number, shown in enumerate(_COLUMNS.values())),
        marks={COMMA: COMMA},
        after=LINE,
        special=b'",',
        escape=lambda _value, text: _cell(text),
        zone=report.zone,
        ends=report.ends,
    )


def _cell(text: str) -> str:
    return '"{}"'.format(text.replace('"', '""')) if _QUOTED.search(text) else text
