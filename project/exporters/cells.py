"""Writes cells of a workbook, never as formulas or links. Functions may raise CellError."""

import re
from datetime import datetime
from typing import Any
from xml.sax.saxutils import escape

MAX_TEXT = 32_767
"""Excel's limit for the text of a cell, in UTF-16 code units: most emoji have two or more."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class CellError(RuntimeError):
    """Raised if XlsxWriter refuses a cell, which it reports only by a negative return value."""


def put_text(sheet: Any, row: int, column: int, text: str, style: Any = None) -> None:
    """Write text as a string cell, even if it looks like a number, a formula or a URL."""
    _check(sheet.write_string(row, column, _escape_rich_text(truncate(_SURROGATE.sub("\ufffd", text))), style))


def put_number(sheet: Any, row: int, column: int, number: float, style: Any = None) -> None:
    """Write a number cell."""
    _check(sheet.write_number(row, column, number, style))


def put_datetime(sheet: Any, row: int, column: int, moment: datetime, style: Any = None) -> None:
    """Write a naive datetime as a date cell, without fractions of a second."""
    _check(sheet.write_datetime(row, column, moment.replace(microsecond=0), style))


def _check(code: int) -> None:
    if code < 0:
        raise CellError(f"XlsxWriter refused a cell: {code}")


def truncate(text: str, limit: int = MAX_TEXT) -> str:
    """Truncate a text to `limit` UTF-16 code units, ending with an ellipsis if it was longer."""
    if len(text) <= limit // 2:
        return text
    units = text.encode("utf-16-le")
    if len(units) <= limit * 2:
        return text
    return units[: (limit - 1) * 2].decode("utf-16-le", "ignore") + "…"


def _escape_rich_text(text: str) -> str:
    """Return a text that XlsxWriter does not mistake for rich text markup.

    XlsxWriter does not escape `<r>…</r>` (`Worksheet._write_cell`), so a name could inject a formula. Such a value is
    written as rich text of one run, which spreadsheets show unchanged.
    """
    if not (text.startswith("<r>") and text.endswith("</r>")):
        return text
    rich_text = f'<r><t xml:space="preserve">{escape(text)}</t></r>'
    return rich_text if len(rich_text) <= MAX_TEXT else text[: MAX_TEXT // 2] + "…"
