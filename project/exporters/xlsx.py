"""The .xlsx workbook: numbers and charts to look at, and behind them every attempt."""

from collections.abc import Iterable
from datetime import UTC
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from xlsxwriter import Workbook

from project.domain.attempts import AttemptRow
from project.domain.reports import Report
from project.exporters import log_sheets, summary, summary_sheets
from project.exporters.styles import Styles
from project.exporters.words import Heading, Words


def write(
    report: Report,
    rows: Iterable[AttemptRow],
    file: BinaryIO,
    heading: Heading,
    words: Words,
    *,
    rows_per_sheet: int = log_sheets.MAX_ROWS,
) -> None:
    """Write the whole workbook. Rows wait on disk, not in memory, until the last one is known."""
    with TemporaryDirectory(prefix="useradd-xlsx-") as folder:
        workbook = Workbook(file, _options(folder))
        try:
            styles = front(workbook, report, heading, words)
            log_sheets.add(workbook, rows, report.zone, words, styles, rows_per_sheet)
            workbook.close()
        finally:
            # Not `with Workbook`: it closes also after an error, and half of the rows would look like all of them.
            _close_temporary_files(workbook)


def front(workbook: Any, report: Report, heading: Heading, words: Words) -> Styles:
    """Add all that stands before the rows: properties and the sheets whose size does not depend on their number."""
    workbook.set_properties(
        {
            "title": summary.title(words),
            "author": "useradd",
            "created": heading.exported_at.astimezone(UTC).replace(tzinfo=None),
        }
    )
    styles = Styles.of(workbook, words.language)
    summary_sheets.add(workbook, report, heading, words, styles)
    return styles


def _options(folder: str) -> dict[str, Any]:
    return {
        "constant_memory": True,
        "tmpdir": folder,
        "use_zip64": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
    }


def _close_temporary_files(workbook: Any) -> None:
    for sheet in workbook.worksheets():
        sheet.row_data_fh.close()
