"""Styles of a workbook: cell formats, colours, page setup."""

from dataclasses import dataclass
from typing import Any

from project.domain.attempts import Outcome
from project.exporters.cells import put_text

COLOURS = {
    Outcome.CREATED: "#48A085",
    Outcome.REJECTED: "#BF3329",
    Outcome.FAILED: "#B26A00",
    Outcome.UNCHANGED: "#8A94A0",
}
"""Colours of the chart, the same as on the results page."""

A4_PAPER = 9
"""Excel's number of the paper format A4."""
_DAY_FORMATS = {"ru": r"dd\.mm\.yyyy"}
_SORTABLE_DAY = "yyyy-mm-dd"
"""Format of days in languages that are not in _DAY_FORMATS. Formats there have escaped dots, because some programs read
a bare dot as the decimal point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Styles:
    """The cell formats of a workbook."""

    title: Any
    label: Any
    header: Any
    header_right: Any
    header_indented: Any
    text: Any
    indented: Any
    number: Any
    total: Any
    total_label: Any
    share: Any
    status: Any
    day: Any
    moment: Any
    rejected: Any
    failed: Any

    @classmethod
    def add_to(cls, workbook: Any, language: str) -> "Styles":
        """Add the cell formats to an XlsxWriter workbook, with the date format of a language."""
        day = _DAY_FORMATS.get(language, _SORTABLE_DAY)
        # Headers have a format of their own: LibreOffice 7.4 does not support table styles.
        header = {"bold": True, "bg_color": "#E8EEF2", "bottom": 1, "bottom_color": "#8A94A0", "valign": "vcenter"}
        total = {"bold": True, "top": 1, "top_color": "#8A94A0"}
        return cls(
            title=workbook.add_format({"bold": True, "font_size": 16}),
            label=workbook.add_format({"font_color": "#5A6472"}),
            header=workbook.add_format(header),
            header_right=workbook.add_format({**header, "align": "right"}),
            header_indented=workbook.add_format({**header, "indent": 1}),
            text=workbook.add_format({"num_format": "@"}),
            # Without indent, text would touch the number to its left.
            indented=workbook.add_format({"num_format": "@", "indent": 1}),
            number=workbook.add_format({"num_format": "#,##0"}),
            total=workbook.add_format({**total, "num_format": "#,##0"}),
            total_label=workbook.add_format(total),
            share=workbook.add_format({"num_format": "0.0%"}),
            status=workbook.add_format({"num_format": '0;-0;"—"', "align": "left"}),
            day=workbook.add_format({"num_format": day, "align": "left"}),
            moment=workbook.add_format({"num_format": f"{day} hh:mm:ss", "align": "left"}),
            rejected=workbook.add_format({"font_color": "#9C1C13", "bg_color": "#FBE3E1"}),
            failed=workbook.add_format({"font_color": "#7A4A00", "bg_color": "#FFEBC2"}),
        )


def put_headers(sheet: Any, row: int, headers: list[str], styles: Styles, numbers_from: int = 99) -> None:
    """Write the header row of a table; right-align the columns with index >= `numbers_from`."""
    for column, header in enumerate(headers):
        put_text(sheet, row, column, header, styles.header_right if column >= numbers_from else styles.header)


def set_up_page(sheet: Any, *, pages_high: int) -> None:
    """Set up printing on landscape A4, one page wide; `pages_high` 0 means as many as needed."""
    sheet.set_landscape()
    sheet.set_paper(A4_PAPER)
    sheet.set_margins(left=0.4, right=0.4, top=0.5, bottom=0.6)
    sheet.fit_to_pages(1, pages_high)
    sheet.set_footer("&L&A&R&P / &N")


def set_up_table(sheet: Any, widths: tuple[int, ...], headers: list[str]) -> None:
    """Set column widths; freeze the header and repeat it on every printed page."""
    for column, (width, header) in enumerate(zip(widths, headers, strict=True)):
        sheet.set_column(column, column, max(width, len(header) + 4))
    sheet.freeze_panes(1, 1)
    sheet.repeat_rows(0)
    set_up_page(sheet, pages_high=0)
