"""The sheets of attempts: as many as the rows need."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from project.domain.attempts import CREATED, AttemptRow
from project.exporters import summary
from project.exporters.cells import put_moment, put_number, put_text
from project.exporters.styles import Styles, put_heads, set_up_table
from project.exporters.words import Words

MAX_ROWS = 1_048_575
"""Rows of a sheet (Excel's limit) without its head."""

WIDTHS = (20, 16, 8, 24, 42, 26, 30, 21, 30, 12, 40)
LAST_COLUMN = len(WIDTHS) - 1


def add(
    workbook: Any, rows: Iterable[AttemptRow], zone: ZoneInfo, words: Words, styles: Styles, rows_per_sheet: int
) -> None:
    """Write all attempts, going on in a further sheet whenever one is full; no attempts leave one with its head."""
    put_row = _row_writer(zone, words, styles)
    number, line = 1, 0
    sheet = open_sheet(workbook, number, words, styles)
    for row in rows:
        if line == rows_per_sheet:
            finish_sheet(sheet, line, styles)
            number, line = number + 1, 0
            sheet = open_sheet(workbook, number, words, styles)
        line += 1
        put_row(sheet, line, row)
    finish_sheet(sheet, line, styles)


def open_sheet(workbook: Any, number: int, words: Words, styles: Styles) -> Any:
    """Add a sheet with its head: `Requests`, then `Requests 2` and so on."""
    _ = words.gettext
    sheet = workbook.add_worksheet(_("Requests") if number == 1 else f"{_('Requests')} {number}")
    heads = summary.log_heads(words)
    set_up_table(sheet, WIDTHS, heads)
    put_heads(sheet, 0, heads, styles)
    put_text(sheet, 0, 9, heads[9], styles.head_right)
    put_text(sheet, 0, 10, heads[10], styles.head_indented)
    return sheet


def finish_sheet(sheet: Any, last: int, styles: Styles) -> None:
    """Add what must know the last row: the filter, colours of failures, silence about numbers kept as text."""
    sheet.autofilter(0, 0, last, LAST_COLUMN)
    sheet.ignore_errors({"number_stored_as_text": f"A1:K{last + 1}"})
    if not last:
        return
    # 0 stands for no answer at all: the process died.
    rejected, failed = "=AND($C2>=400,$C2<500)", "=OR($C2=0,$C2>=500)"
    for rule, style in ((rejected, styles.rejected), (failed, styles.failed)):
        sheet.conditional_format(1, 1, last, 2, {"type": "formula", "criteria": rule, "format": style})


def _row_writer(zone: ZoneInfo, words: Words, styles: Styles) -> Callable[[Any, int, AttemptRow], None]:
    """Return what writes one attempt into a line of a sheet."""
    outcomes, reason_of = summary.log_outcomes(words), cache(words.reason)

    def put_row(sheet: Any, line: int, row: AttemptRow) -> None:
        put_moment(sheet, line, 0, row.received_at.astimezone(zone).replace(tzinfo=None), styles.moment)
        put_text(sheet, line, 1, outcomes[row.outcome])
        put_number(sheet, line, 2, row.status, styles.status)
        if row.code != CREATED:
            put_text(sheet, line, 3, row.code, styles.text)
            put_text(sheet, line, 4, reason_of(row.code), styles.text)
        for column, value in enumerate((row.username, row.name, row.phone_masked, row.email_masked), start=5):
            if value:
                put_text(sheet, line, column, value, styles.text)
        put_number(sheet, line, 9, row.duration_ms, styles.number)
        put_text(sheet, line, 10, str(row.id), styles.indented)

    return put_row
