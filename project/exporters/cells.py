"""Cells of a workbook that hold data and nothing else: no formula, no link, nothing lost in silence."""

import re
from datetime import datetime
from typing import Any
from xml.sax.saxutils import escape

MAX_TEXT = 32_767
"""Characters in a cell (Excel's limit), an emoji counting two: UTF-16 units."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class CellError(RuntimeError):
    """XlsxWriter did not take a cell; it says so by a number that nobody would notice."""


def put_text(sheet: Any, row: int, column: int, text: str, style: Any = None) -> None:
    """Write text as text, whatever it looks like."""
    _check(sheet.write_string(row, column, _inert(fitted(_SURROGATE.sub("\ufffd", text))), style))


def put_number(sheet: Any, row: int, column: int, number: float, style: Any = None) -> None:
    """Write a number."""
    _check(sheet.write_number(row, column, number, style))


def put_moment(sheet: Any, row: int, column: int, moment: datetime, style: Any = None) -> None:
    """Write a real date. Workbooks know no zones: `moment` is local and naive, and whole seconds are not rounded up."""
    _check(sheet.write_datetime(row, column, moment.replace(microsecond=0), style))


def _check(code: int) -> None:
    if code < 0:
        raise CellError(f"XlsxWriter refused a cell: {code}")


def fitted(text: str) -> str:
    """Return text that fits into a cell, cut with a mark (XlsxWriter cuts too, but leaves no mark)."""
    if len(text) <= MAX_TEXT // 2:
        return text
    units = text.encode("utf-16-le")
    if len(units) <= MAX_TEXT * 2:
        return text
    return units[: (MAX_TEXT - 1) * 2].decode("utf-16-le", "ignore") + "…"


def _inert(text: str) -> str:
    """Return text that XlsxWriter does not take for its own rich text.

    It writes `<r>…</r>` into the sheet unescaped (`Worksheet._write_cell`), so a name could bring a formula along.
    The same value as true rich text of one run reads back as it was sent.
    """
    if not (text.startswith("<r>") and text.endswith("</r>")):
        return text
    run = f'<r><t xml:space="preserve">{escape(text)}</t></r>'
    return run if len(run) <= MAX_TEXT else text[: MAX_TEXT // 2] + "…"
