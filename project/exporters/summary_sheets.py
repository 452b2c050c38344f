"""Exports the sheets Summary (with charts), By error and By day."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from project.domain.attempts import Outcome
from project.domain.reports import Bucket, Report
from project.exporters import summary
from project.exporters.cells import put_datetime, put_number, put_text
from project.exporters.styles import COLOURS, Styles, put_headers, set_up_page, set_up_table
from project.exporters.translations import Heading, Translations

MAX_BARS = 12
"""Maximum number of reasons in the chart: more bars would be too thin. The sheet By error has all reasons."""

_STACK = (Outcome.REJECTED, Outcome.FAILED, Outcome.CREATED, Outcome.UNCHANGED)
"""Order of the bars from bottom to top: rejections and failures are next to the axis, where heights are comparable."""

MONTH_DAYS, YEAR_DAYS = 31, 366
_CHART_COLUMN = 4


@dataclass(frozen=True, slots=True)
class _Book:
    """A workbook, and the data and styles of its sheets."""

    workbook: Any
    report: Report
    translations: Translations
    styles: Styles


def add_sheets(workbook: Any, report: Report, heading: Heading, translations: Translations, styles: Styles) -> None:
    """Add the three sheets. The charts on the first sheet show the data of the other two.

    Charts include a copy of their data (`*_data`), because previews in mail programs do not read cells.
    """
    _ = translations.gettext
    book = _Book(workbook, report, translations, styles)
    summary_sheet, errors, days = map(workbook.add_worksheet, (_("Summary"), _("By error"), _("By day")))
    top = _fill_summary(summary_sheet, heading, book)
    _fill_errors(errors, book)
    _fill_days(days, book)
    if report.series:
        summary_sheet.insert_chart(top, _CHART_COLUMN, _chart_by_day(days, book), {"description": _("Requests by day")})
        top += 17
    if report.by_error_code:
        description = {"description": _("Why no user was created")}
        summary_sheet.insert_chart(top, _CHART_COLUMN, _chart_by_reason(errors, book), description)


def _fill_summary(sheet: Any, heading: Heading, book: _Book) -> int:
    """Write title, heading and totals; return the row at which totals and charts begin."""
    sheet.hide_gridlines(2)
    sheet.set_column(0, 0, 42)
    sheet.set_column(1, 2, 13)
    sheet.set_column(3, 3, 3)
    set_up_page(sheet, pages_high=1)
    put_text(sheet, 0, 0, summary.file_title(heading, book.translations), book.styles.title)
    top = 2
    for name, value in summary.heading_lines(heading, book.report, book.translations):
        put_text(sheet, top, 0, name, book.styles.label)
        put_text(sheet, top, 1, value)
        top += 1
    _fill_totals(sheet, top + 1, book)
    return top + 1


def _fill_totals(sheet: Any, row: int, book: _Book) -> None:
    _ = book.translations.gettext
    row = _fill_shares(sheet, row, _("Totals"), summary.totals(book.report, book.translations), book)
    label = book.translations.status
    statuses = [(f"{row.status or '—'}  {label(row.status)}", row.count) for row in book.report.by_status]
    row = _fill_shares(sheet, row + 1, _("HTTP statuses"), statuses, book)
    for offset, (name, milliseconds) in enumerate(summary.percentiles(book.report, book.translations), start=1):
        put_text(sheet, row + offset, 0, name)
        put_number(sheet, row + offset, 1, milliseconds, book.styles.number)


def _fill_shares(sheet: Any, row: int, name: str, lines: list[tuple[str, int]], book: _Book) -> int:
    """Write a table of counts and shares; return the row below it."""
    _ = book.translations.gettext
    put_headers(sheet, row, [name, _("Requests"), _("Share")], book.styles, numbers_from=1)
    for text, count in lines:
        row += 1
        put_text(sheet, row, 0, text)
        put_number(sheet, row, 1, count, book.styles.number)
        _put_share(sheet, row, 2, count, book)
    return row + 1


def _put_share(sheet: Any, row: int, column: int, count: int, book: _Book) -> None:
    if book.report.total:
        put_number(sheet, row, column, count / book.report.total, book.styles.share)


def _fill_errors(sheet: Any, book: _Book) -> None:
    _ = book.translations.gettext
    headers = ["HTTP", _("Status"), _("Code"), _("Reason"), _("Requests"), _("Share")]
    longest = max((len(book.translations.reason(reason.code)) for reason in book.report.by_error_code), default=0)
    set_up_table(sheet, (8, 26, 26, min(max(longest + 4, 40), 90), 12, 10), headers)
    put_headers(sheet, 0, headers, book.styles, numbers_from=4)
    for row, reason in enumerate(book.report.by_error_code, start=1):
        put_number(sheet, row, 0, reason.status, book.styles.status)
        put_text(sheet, row, 1, book.translations.status(reason.status), book.styles.text)
        put_text(sheet, row, 2, reason.code, book.styles.text)
        put_text(sheet, row, 3, book.translations.reason(reason.code), book.styles.text)
        put_number(sheet, row, 4, reason.count, book.styles.number)
        _put_share(sheet, row, 5, reason.count, book)


def _fill_days(sheet: Any, book: _Book) -> None:
    headers = summary.day_headers(book.report, book.translations)
    set_up_table(sheet, (14, 14) + (12,) * (len(headers) - 2), headers)
    put_headers(sheet, 0, headers, book.styles, numbers_from=2)
    row = 0
    for row, day in enumerate(book.report.series, start=1):
        put_datetime(sheet, row, 0, _local_day(day, book.report), book.styles.day)
        put_text(sheet, row, 1, book.translations.weekday(day.since, book.report.zone), book.styles.text)
        _put_counts(sheet, row, summary.day_counts(book.report, day), book.styles.number)
    if row:
        put_text(sheet, row + 1, 0, book.translations.gettext("Total"), book.styles.total_label)
        sheet.write_blank(row + 1, 1, None, book.styles.total_label)
        _put_counts(sheet, row + 1, summary.all_days_counts(book.report), book.styles.total)


def _put_counts(sheet: Any, row: int, counts: list[int], style: Any) -> None:
    for column, count in enumerate(counts, start=2):
        put_number(sheet, row, column, count, style)


def _local_day(day: Bucket, report: Report) -> datetime:
    return day.since.astimezone(report.zone).replace(tzinfo=None)


def _serial_day(local: datetime) -> int:
    """Return a day as workbooks store it: days since 1899-12-30."""
    return (local - datetime(1899, 12, 30)).days  # noqa: DTZ001 (workbooks know no zones)


def _chart_by_day(sheet: Any, book: _Book) -> Any:
    _ = book.translations.gettext
    chart = book.workbook.add_chart({"type": "column", "subtype": "stacked"})
    headers = summary.day_headers(book.report, book.translations)
    outcomes = summary.shown_outcomes(book.report)
    last = len(book.report.series)
    counts = [summary.day_counts(book.report, day) for day in book.report.series]
    for outcome in (outcome for outcome in _STACK if outcome in outcomes):
        column = outcomes.index(outcome) + 3
        chart.add_series(
            {
                "name": headers[column],
                "categories": [sheet.name, 1, 0, last, 0],
                "categories_data": [_serial_day(_local_day(day, book.report)) for day in book.report.series],
                "values": [sheet.name, 1, column, last, column],
                "values_data": [day[column - 2] for day in counts],
                "fill": {"color": COLOURS[outcome]},
                "gap": 40,
            }
        )
    chart.set_title(_chart_title(_("Requests by day")))
    # A date axis leaves out labels that do not fit, but LibreOffice labels a single day as the first of January.
    axis = "date_axis" if last > MONTH_DAYS else "text_axis"
    chart.set_x_axis({axis: True, "num_format": _axis_day_format(book.translations, last), "num_font": {"size": 9}})
    grid = {"visible": True, "line": {"color": "#D9DFE4", "width": 0.75}}
    font = {"num_format": "#,##0", "num_font": {"size": 9}}
    chart.set_y_axis({**font, "major_gridlines": grid, "line": {"none": True}})
    chart.set_legend({"position": "bottom"})
    chart.set_size({"width": 640, "height": 320})
    return chart


def _chart_by_reason(sheet: Any, book: _Book) -> Any:
    _ = book.translations.gettext
    chart = book.workbook.add_chart({"type": "bar"})
    last = min(len(book.report.by_error_code), MAX_BARS)
    chart.add_series(
        {
            "name": _("Requests"),
            "categories": [sheet.name, 1, 3, last, 3],
            "categories_data": [book.translations.reason(reason.code) for reason in book.report.by_error_code[:last]],
            "values": [sheet.name, 1, 4, last, 4],
            "values_data": [reason.count for reason in book.report.by_error_code[:last]],
            "fill": {"color": COLOURS[Outcome.REJECTED]},
            "gap": 40,
            "data_labels": {"value": True, "num_format": "#,##0", "font": {"size": 9}},
        }
    )
    chart.set_title(_chart_title(_("Why no user was created")))
    # Bar charts start at the bottom; the most frequent reason belongs at the top.
    chart.set_y_axis({"reverse": True, "num_font": {"size": 9}})
    chart.set_x_axis({"visible": False, "major_gridlines": {"visible": False}, "min": 0})
    chart.set_legend({"none": True})
    chart.set_size({"width": 640, "height": 80 + 26 * last})
    return chart


def _chart_title(text: str) -> dict[str, Any]:
    return {"name": text, "name_font": {"size": 12}, "overlay": False}


def _axis_day_format(translations: Translations, days: int) -> str:
    if days > YEAR_DAYS:
        return "mm\\.yyyy" if translations.language == "ru" else "yyyy-mm"
    return "dd\\.mm" if translations.language == "ru" else "mm-dd"
