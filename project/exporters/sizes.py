"""Estimates the sizes of files, to be shown before the download."""

from datetime import timedelta
from typing import NamedTuple

from project.domain.reports import Report
from project.exporters.translations import Translations


class _Bytes(NamedTuple):
    """Average sizes of the parts of a file in bytes."""

    file: int
    """Bytes of an empty file."""
    kind: int
    """Bytes per pair of status and code in the totals."""
    day: int
    """Bytes per day in the table by day."""
    row: int
    """Bytes per row of a created or unchanged attempt."""
    error_row: int
    """Bytes per row of a rejected or failed attempt, without code, reason and message."""
    message_factor: float
    """Bytes written per byte of code and message; above 1, because an attempt may have several errors."""
    reason_factor: float
    """Bytes written per byte of the label of the code."""


_BYTES = {
    "txt": _Bytes(1_450, 150, 72, 262, 210, 1.6, 1.6),
    "csv": _Bytes(106, 0, 0, 174, 194, 1, 0),
    "xlsx": _Bytes(12_500, 200, 100, 97, 121, 0, 0),
}
"""File extension -> sizes, measured with the sample data of docs/sample.py in both languages, masked and unmasked, with
fifteen filters."""


def expected_size(ending: str, report: Report, translations: Translations) -> int:
    """Return the approximate size of a file in bytes."""
    size = _BYTES[ending]
    errors = report.by_error_code
    error_rows = sum(row.count for row in errors)
    rows = size.row * (report.total - error_rows) + size.error_row * error_rows
    texts = sum(row.count * _text_bytes(size, row.code, translations) for row in errors)
    tables = size.kind * len(report.by_code) + size.day * _days(report)
    return round(size.file + tables + rows + texts)


def _days(report: Report) -> int:
    return (report.until - (report.since or report.until)) // timedelta(days=1) + 1


def _text_bytes(size: _Bytes, code: str, translations: Translations) -> float:
    message = code + translations.messages.sentences.get((code, ""), "")
    return size.message_factor * len(message.encode()) + size.reason_factor * len(translations.reason(code).encode())
