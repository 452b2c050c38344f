"""Exports a .csv file (RFC 4180) whose columns have the field names of the JSON API.

An apostrophe is written before values that look like formulas, because spreadsheets open the file, too. Programs that
need the values as they were sent request the raw file.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from project.domain.attempts import Outcome
from project.domain.lines import JOINT, Column, Label, Layout, Lines, Value
from project.domain.reports import CountAttempts, Report
from project.exporters import formulas
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
    "what_to_fix": Value.MESSAGES,
}
_QUOTED = re.compile(r'[",\r\n]')
_FORMULA = re.compile(formulas.UNSAFE)


def stream(count: CountAttempts, lines: Lines, _heading: Heading, translations: Translations) -> Iterator[bytes]:
    """Yield the header before attempts are counted, then the rows in blocks."""
    return _stream(count, lines, translations, raw=False)


def stream_raw(count: CountAttempts, lines: Lines, _heading: Heading, translations: Translations) -> Iterator[bytes]:
    """Yield the same file as stream(), but without apostrophes before formulas."""
    return _stream(count, lines, translations, raw=True)


def _stream(count: CountAttempts, lines: Lines, translations: Translations, *, raw: bool) -> Iterator[bytes]:
    yield (COMMA.join(_COLUMNS) + LINE).encode()
    for block in lines(layout(count(), translations, raw=raw)):
        yield block.content


def layout(report: Report, translations: Translations, *, raw: bool = False) -> Layout:
    """Return the layout of a row. Formulas get an apostrophe unless `raw` is set."""
    separators = dict.fromkeys(_COLUMNS.values(), JOINT) | {Value.ID: "", Value.PHONE: formulas.PHONE}
    shared = Layout(
        columns=tuple(Column(value, separators[value]) for value in _COLUMNS.values()),
        separators={JOINT: COMMA, "\x02": ""},
        suffix=LINE,
        special=b'",',
        escape=lambda _value, text: _quoted(text),
        zone=report.zone,
        kinds=report.kinds,
        messages=translations.messages,
    )
    if raw:
        return shared
    return replace(shared, unsafe=_FORMULA, lead_bytes=formulas.LEAD_BYTES, hints=formulas.HINTS, escape=_disarmed)


def _disarmed(value: Value, text: str) -> str:
    return _quoted(formulas.disarmed(text, is_phone=value is Value.PHONE))


def _quoted(text: str) -> str:
    return '"{}"'.format(text.replace('"', '""')) if _QUOTED.search(text) else text
