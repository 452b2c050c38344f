"""The .xlsx workbook, read back with openpyxl and as raw XML."""

import gc
import io
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from openpyxl import load_workbook
from openpyxl.workbook import Workbook

from project.domain.attempts import AttemptRow
from project.domain.reports import Report
from project.exporters import cells, log_sheets, xlsx
from project.exporters.translations import Translations
from tests.lines import lines_of
from tests.unit.test_exporters import (
    DRY_RUN,
    ENGLISH_TRANSLATIONS,
    FAILED,
    HEADING,
    REJECTED,
    RUSSIAN_TRANSLATIONS,
    attempt_row,
    count_too_early,
    query_too_early,
    report,
)

MIXED = [attempt_row()] * 5 + [attempt_row(**REJECTED)] * 3 + [attempt_row(**FAILED)] * 2


def content_of(
    rows: Sequence[AttemptRow],
    translations: Translations = RUSSIAN_TRANSLATIONS,
    counted: Report | None = None,
    **options: Any,
) -> bytes:
    """Return the workbook as bytes."""
    heading = options.pop("heading", HEADING)
    blocks = lines_of(rows, options.get("rows_per_sheet", 500))
    return b"".join(xlsx.stream(lambda: counted or report(rows), blocks, heading, translations, **options))


def book_of(rows: Sequence[AttemptRow], translations: Translations = RUSSIAN_TRANSLATIONS, **options: Any) -> Workbook:
    """Return the workbook as openpyxl reads it."""
    return load_workbook(io.BytesIO(content_of(rows, translations, **options)))


def parts_of(content: bytes, pattern: str) -> str:
    """Return the XML of all parts of a workbook whose names match."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return "".join(archive.read(name).decode() for name in archive.namelist() if re.search(pattern, name))


def rows_of(book: Workbook, name: str) -> list[tuple[Any, ...]]:
    """Return the values of a sheet without its header."""
    return list(book[name].iter_rows(min_row=2, values_only=True))


def name_cell(value: str) -> Any:
    """Return the cell of an attempt's name."""
    return book_of([attempt_row(name=value)])["Запросы"]["G2"]


def shown_search(value: str) -> Any:
    """Return the search text that the summary shows."""
    front = book_of(MIXED, heading=replace(HEADING, filters=(("Поиск", value),)))["Сводка"]
    return next(row[1] for row in front.iter_rows(values_only=True) if row[0] == "Поиск")


@pytest.mark.parametrize(
    ("translations", "names"),
    [
        (RUSSIAN_TRANSLATIONS, ["Сводка", "По ошибкам", "По дням", "Запросы"]),
        (ENGLISH_TRANSLATIONS, ["Summary", "By error", "By day", "Requests"]),
    ],
)
def test_sheets_are_named_in_the_readers_language(translations: Translations, names: list[str]) -> None:
    book = book_of(MIXED, translations)

    assert book.sheetnames == names


@pytest.mark.parametrize(
    ("selected", "name"),
    [
        ("отказы", "Запросы, отказы"),
        ("a/b [c]: 'd'?*\\", "Запросы, a b c d"),
        ("отказы, Некорректный телефон, 422", "Запросы, отказы, Некорректный …"),
        ("R&D", "Запросы, R D"),
        ("“'”", "Запросы"),
        ("𠮷" * 11, "Запросы, " + "𠮷" * 11),
        ("𠮷" * 12, "Запросы, " + "𠮷" * 10 + "…"),
    ],
)
def test_titles_and_sheets_name_the_filters(selected: str, name: str) -> None:
    book = book_of([attempt_row()] * 2, heading=replace(HEADING, selected=selected), rows_per_sheet=1)

    assert book.sheetnames[3] == name
    assert book.sheetnames[4].endswith(" 2")
    assert max(len(name.encode("utf-16-le")) // 2 for name in book.sheetnames) <= 31
    assert book["Сводка"]["A1"].value == book.properties.title == f"Запросы на создание пользователей: {selected}"


def test_the_name_of_a_sheet_contains_no_escape_that_excel_would_decode() -> None:
    book = book_of(MIXED, heading=replace(HEADING, selected="“_x002F_”"))

    assert book.sheetnames[3] == "Запросы, x002F_"


@pytest.mark.parametrize(
    "value",
    [
        *("=1+1", "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "{=1}", "12345", "007", "1e5", "TRUE"),
        *("http://example.org", "mailto:a@example.org", "internal:A1", "external:c:\\x", "ftp://example.org"),
        *(" leading", "tab\tin", "\ttab", "two\nlines", "\n", 'quote"', "a & b < c > d", "]]>", "😀"),
        *("<r>", "<r></r>", "<r><t>x</t></r>", "<r></t></is></c><c><f>1+1</f></c></r>", "<r> & </r>"),
    ],
)
def test_values_of_clients_are_always_text_cells(value: str) -> None:
    content = content_of([attempt_row(name=value, username=value, email_masked=value, phone_masked=value)])

    cells = load_workbook(io.BytesIO(content))["Запросы"]["F2:I2"][0]
    assert [(cell.value, cell.data_type, cell.hyperlink) for cell in cells] == [(value, "s", None)] * 4
    assert not re.search(r"<f[ >/]|<hyperlink", parts_of(content, r"^xl/worksheets/"))
    assert "hyperlink" not in parts_of(content, r"_rels")


@pytest.mark.parametrize("value", [" before", "after ", "\taround\n", " ", "<r> rich </r> ", " _x0041_ "])
def test_blanks_at_the_edges_of_a_text_are_marked_as_significant(value: str) -> None:
    """Spreadsheets drop them without `xml:space="preserve"` (XML 1.0, 2.10)."""
    content = content_of([attempt_row(name=value, username=value, email_masked=value, phone_masked=value)])

    cells = re.findall(r'<c r="[F-I]2"[^>]*><v([^>]*)>', parts_of(content, r"sheet4\.xml$"))

    assert cells == [' xml:space="preserve"'] * 4


@pytest.mark.parametrize("value", ["\x00", "a\x0bb", "\r", "_x0041_", "_x005F_", "\x1b[31m", "\ufffe", "\uffff"])
def test_characters_that_xml_forbids_are_preserved(value: str) -> None:
    cell = name_cell(value)

    assert excel_text(cell.value) == value


def excel_text(escaped: str) -> str:
    """Decode `_xHHHH_` as Excel does (ECMA-376 Part 1, 22.9.2.19); openpyxl leaves it."""
    return re.sub(r"_x([0-9A-F]{4})_", lambda match: chr(int(match[1], 16)), escaped)


@pytest.mark.parametrize("value", ["Анна \ud83d", "\udc00"])
def test_a_lone_surrogate_in_a_filter_does_not_break_the_workbook(value: str) -> None:
    assert shown_search(value) == value[:-1] + "\ufffd"


@pytest.mark.parametrize(
    "value", ["=1+1", "http://example.org", " leading", "<r><t>x</t></r>", "<r></t></is></c><c><f>1"]
)
def test_a_filter_is_always_a_text_cell(value: str) -> None:
    assert shown_search(value) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("я" * 32_767, "я" * 32_767),
        ("я" * 40_000, "я" * 32_766 + "…"),
        ("😀" * 20_000, "😀" * 16_383 + "…"),
        ("😀" * 16_383 + "я", "😀" * 16_383 + "я"),
        ("<r>" + "&" * 32_760 + "</r>", "<r>" + "&" * 32_760 + "</r>"),
        ("x" * 32_000 + "<&>" * 1000, ("x" * 32_000 + "<&>" * 1000)[:32_766] + "…"),
    ],
    ids=["just fits", "too long", "emoji count twice", "emoji just fit", "markup just fits", "markup"],
)
def test_a_text_longer_than_a_cell_is_truncated_with_an_ellipsis(value: str, shown: str) -> None:
    cell = name_cell(value)

    assert cell.value == shown


@pytest.mark.parametrize("code", [-1, -2, -3])
def test_a_cell_that_xlsxwriter_refuses_is_an_error(code: int) -> None:
    class Refusing:
        def write_string(self, *_: object) -> int:
            return code

    with pytest.raises(cells.CellError, match=str(code)):
        cells.put_text(Refusing(), 0, 0, "text")


def test_a_row_has_real_dates_numbers_and_text() -> None:
    rows = [attempt_row(), attempt_row(**REJECTED, name=None)]

    created, rejected = rows_of(book_of(rows), "Запросы")

    number = str(rows[0].id)
    noon = datetime(2026, 11, 23, 12)  # noqa: DTZ001 (workbooks know no zones)
    assert created == (
        *(noon, "создан", 201, None, None, "a.sokolova", "Анна Соколова"),
        *("+7 912 •••-••-41", "a•••@example.org", None, 17, number),
    )
    assert rejected == (
        *(noon, "отказ", 422, "invalid_phone", "Некорректный телефон", "a.sokolova", None),
        *("+7 912 •••-••-41", "a•••@example.org"),
        *("Телефон: The number is too short. Почта: This is not an e-mail address.", 17, number),
    )


def test_every_row_and_cell_has_its_address() -> None:
    content = content_of([attempt_row(), attempt_row(**REJECTED), *MIXED], rows_per_sheet=7)

    for number in (4, 5):
        xml = parts_of(content, rf"sheet{number}\.xml$")
        rows = re.findall(r"<row(.*?)>(.*?)</row>", xml, re.DOTALL)
        assert len(rows) > 5
        for at, (attributes, inside) in enumerate(rows, start=1):
            assert f' r="{at}"' in attributes
            addresses = [re.fullmatch(r'.* r="([A-L])(\d+)".*', cell) for cell in re.findall(r"<c( .*?)>", inside)]
            assert all(match is not None and int(match[2]) == at for match in addresses)
            letters = [match[1] for match in addresses if match]
            assert letters == sorted(set(letters))


@pytest.mark.parametrize(
    ("translations", "form"),
    [(RUSSIAN_TRANSLATIONS, r"dd\.mm\.yyyy hh:mm:ss"), (ENGLISH_TRANSLATIONS, "yyyy-mm-dd hh:mm:ss")],
)
def test_dates_are_date_cells(translations: Translations, form: str) -> None:
    cell = book_of([attempt_row()], translations).worksheets[3]["A2"]

    assert (cell.is_date, cell.number_format) == (True, form)


def test_the_totals_of_the_workbook_match_its_rows() -> None:
    rows = [*MIXED, attempt_row(**DRY_RUN)]

    book = book_of(rows)

    front = {row[0]: row[1] for row in rows_of(book, "Сводка")}
    logged = Counter(row[1] for row in rows_of(book, "Запросы"))
    assert logged == {"создан": 5, "отказ": 3, "сбой": 2, "не создан": 1}
    assert front["Всего запросов"] == logged.total() == 11
    assert front["Создано пользователей"] == logged["создан"]
    assert front["Отказы (4xx)"] == logged["отказ"]
    assert front["Сбои сервиса (5xx)"] == logged["сбой"]
    assert front["Пользователь не создан (проверки и повторы)"] == logged["не создан"]
    assert rows_of(book, "По дням")[-2][1:] == ("пн", 11, 5, 3, 2, 1)
    assert rows_of(book, "По дням")[-1] == ("Всего", None, 11, 5, 3, 2, 1)
    assert [row[4] for row in rows_of(book, "По ошибкам")] == [3, 2]


def test_dry_runs_have_no_column_if_there_are_none() -> None:
    book = book_of(MIXED)

    assert "Пользователь не создан (проверки и повторы)" not in {row[0] for row in rows_of(book, "Сводка")}
    assert [cell.value for cell in book["По дням"][1]] == ["День", "День недели", "Всего", "Создано", "Отказы", "Сбои"]


def test_the_summary_shows_period_filters_exporter_and_time() -> None:
    book = book_of(MIXED)

    front = {row[0]: row[1] for row in rows_of(book, "Сводка")}
    assert book["Сводка"]["A1"].value == "Запросы на создание пользователей"
    assert front["Период"] == "17.11.2026 — 23.11.2026, время московское (UTC+3)"
    assert front["Результат"] == "все"
    assert front["Сформировано"] == "23.11.2026 15:04:12, petrov.ivan"
    assert front["95-й перцентиль, мс"] == 128


def test_reasons_are_listed_with_status_text_code_and_share() -> None:
    reasons = rows_of(book_of(MIXED), "По ошибкам")

    assert reasons == [
        (422, "Ошибка в данных", "invalid_phone", "Некорректный телефон", 3, 0.3),
        (503, "Сервис недоступен", "database_unavailable", "База данных не отвечает", 2, 0.2),
    ]


def test_the_charts_refer_to_the_other_sheets_and_cache_their_values() -> None:
    content = content_of(MIXED)

    by_day, by_reason = (parts_of(content, f"chart{number}.xml") for number in (1, 2))
    assert '<c:grouping val="stacked"/>' in by_day
    assert re.findall(r"<c:f>(.*?)</c:f>", by_day) == [
        *("'По дням'!$A$2:$A$8", "'По дням'!$E$2:$E$8"),
        *("'По дням'!$A$2:$A$8", "'По дням'!$F$2:$F$8"),
        *("'По дням'!$A$2:$A$8", "'По дням'!$D$2:$D$8"),
    ]
    assert re.findall(r"<c:f>(.*?)</c:f>", by_reason) == ["'По ошибкам'!$D$2:$D$3", "'По ошибкам'!$E$2:$E$3"]
    assert re.findall(r"<c:v>(.*?)</c:v>", by_reason)[-4:] == [
        *("Некорректный телефон", "База данных не отвечает"),
        *("3", "2"),
    ]
    assert '<c:pt idx="6"><c:v>46349</c:v>' in by_day  # 2026-11-23
    assert '<c:numFmt formatCode="dd\\.mm"' in by_day
    assert '<c:orientation val="maxMin"/>' in by_reason  # the most frequent reason on top


def test_the_chart_by_day_shows_dry_runs_if_there_are_any() -> None:
    by_day = parts_of(content_of([*MIXED, attempt_row(**DRY_RUN)]), "chart1.xml")

    assert "'По дням'!$G$2:$G$8" in by_day


@pytest.mark.parametrize(
    ("translations", "days", "axis", "form"),
    [
        (RUSSIAN_TRANSLATIONS, 31, "<c:catAx>", r"dd\.mm"),
        (RUSSIAN_TRANSLATIONS, 366, "<c:dateAx>", r"dd\.mm"),
        (RUSSIAN_TRANSLATIONS, 367, "<c:dateAx>", r"mm\.yyyy"),
        (ENGLISH_TRANSLATIONS, 1, "<c:catAx>", "mm-dd"),
        (ENGLISH_TRANSLATIONS, 367, "<c:dateAx>", "yyyy-mm"),
    ],
)
def test_the_axis_of_days_depends_on_their_number(translations: Translations, days: int, axis: str, form: str) -> None:
    rows = [attempt_row()]
    counted = report(rows, series=report(rows).series[-1:] * days)

    by_day = parts_of(content_of(rows, translations, counted=counted), "chart1.xml")

    assert axis in by_day
    assert f'<c:numFmt formatCode="{form}"' in by_day


@pytest.mark.parametrize(
    ("rows", "limit", "names", "sizes"),
    [
        (0, 3, ["Запросы"], [0]),
        (3, 3, ["Запросы"], [3]),
        (4, 3, ["Запросы", "Запросы 2"], [3, 1]),
        (9, 3, ["Запросы", "Запросы 2", "Запросы 3"], [3, 3, 3]),
    ],
)
def test_rows_that_do_not_fit_continue_on_further_sheets(
    rows: int, limit: int, names: list[str], sizes: list[int]
) -> None:
    book = book_of([attempt_row(duration_ms=number) for number in range(rows)], rows_per_sheet=limit)

    assert book.sheetnames[3:] == names
    assert [len(rows_of(book, name)) for name in names] == sizes
    assert [row[10] for name in names for row in rows_of(book, name)] == list(range(rows))


def test_a_sheet_has_as_many_rows_as_excel_allows() -> None:
    assert log_sheets.MAX_ROWS + 1 == 2**20


def test_every_sheet_of_rows_has_filters_frozen_panes_and_print_settings() -> None:
    book = book_of(MIXED, rows_per_sheet=6)

    for sheet, last in zip(book.worksheets[3:], ("L7", "L5"), strict=True):
        assert sheet.auto_filter.ref == f"A1:{last}"
        assert sheet.freeze_panes == "B2"
        assert sheet.print_title_rows == "$1:$1"
        assert (sheet.page_setup.orientation, sheet.page_setup.paperSize) == ("landscape", 9)
        assert sheet.page_setup.fitToHeight == 0
        assert sheet.sheet_properties.pageSetUpPr
        assert sheet.sheet_properties.pageSetUpPr.fitToPage
        assert sheet.column_dimensions["G"].width > 20
        (ranged,) = sheet.conditional_formatting
        assert str(ranged.sqref) == f"B2:C{last[1:]}"
        assert [rule.formula for rule in ranged.rules] == [["AND($C2>=400,$C2<500)"], ["OR($C2=0,$C2>=500)"]]


def test_rejections_are_red_and_failures_amber() -> None:
    (ranged,) = book_of(MIXED)["Запросы"].conditional_formatting

    fills = [rule.dxf.fill.bgColor.rgb for rule in ranged.rules]
    assert fills == ["FFFBE3E1", "FFFFEBC2"]


def test_an_interrupted_attempt_shows_a_dash_as_its_status() -> None:
    cell = book_of([attempt_row(status=0, answered=None)], ENGLISH_TRANSLATIONS)["Requests"]["C2"]

    assert (cell.value, cell.number_format) == (0, '0;-0;"—"')


def test_the_document_properties_name_the_service_and_no_person() -> None:
    book = book_of(MIXED)

    assert book.properties.title == "Запросы на создание пользователей"
    assert (book.properties.creator, book.properties.lastModifiedBy) == ("useradd", "useradd")
    assert book.properties.created == datetime(2026, 11, 23, 12, 4, 12)  # noqa: DTZ001 (openpyxl reads UTC so)


def test_a_workbook_without_rows_is_complete() -> None:
    book = book_of([], ENGLISH_TRANSLATIONS, counted=report(series=(), since=None))

    assert rows_of(book, "Requests") == rows_of(book, "By day") == rows_of(book, "By error") == []
    assert book["Requests"]["A1"].value == "Time"
    assert parts_of(content_of([], counted=report(series=())), "charts/") == ""


def test_an_aborted_workbook_is_invalid_and_leaves_no_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking() -> Iterable[AttemptRow]:
        yield from MIXED
        raise ConnectionError

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sent: list[bytes] = []

    with pytest.raises(ConnectionError):
        sent.extend(xlsx.stream(lambda: report(MIXED), lines_of(breaking(), 2), HEADING, RUSSIAN_TRANSLATIONS))

    gc.collect()
    assert len(sent) > len(MIXED) / 2
    assert not zipfile.is_zipfile(io.BytesIO(b"".join(sent)))
    assert list(tmp_path.iterdir()) == []


def test_the_workbook_starts_before_anything_is_counted() -> None:
    first = next(xlsx.stream(count_too_early, query_too_early, HEADING, ENGLISH_TRANSLATIONS))

    assert first.startswith(b"PK")


@pytest.mark.parametrize(("announced", "size"), [(3, 2), (2, 3), (2, 1)])
def test_more_rows_than_announced_are_an_error(announced: int, size: int) -> None:
    blocks = lines_of(MIXED, size)

    with pytest.raises(xlsx.TooManyRowsError):
        list(
            xlsx.stream(
                lambda: report(MIXED[:announced]), blocks, HEADING, ENGLISH_TRANSLATIONS, rows_per_sheet=announced
            )
        )


def test_a_workbook_stays_valid_when_retention_deletes_rows_during_the_export() -> None:
    content = b"".join(
        xlsx.stream(lambda: report(MIXED), lines_of(MIXED[:3], 2), HEADING, ENGLISH_TRANSLATIONS, rows_per_sheet=4)
    )

    book = load_workbook(io.BytesIO(content))
    assert [len(rows_of(book, name)) for name in book.sheetnames[3:]] == [3, 0, 0]


def test_every_part_of_the_archive_is_valid_and_does_not_need_zip64() -> None:
    with zipfile.ZipFile(io.BytesIO(content_of(MIXED))) as archive:
        assert archive.testzip() is None
        parts = archive.infolist()

    assert {part.extract_version for part in parts} == {20}  # 45 would be the 64-bit form, which Excel may refuse
    assert parts[-1].filename == "xl/worksheets/sheet4.xml"


def test_times_are_local_times_in_summer_and_winter() -> None:
    moments = [datetime(2026, 7, 1, 12, tzinfo=UTC), datetime(2026, 12, 1, 12, tzinfo=UTC)]
    rows = [attempt_row(received_at=moment) for moment in moments]
    berlin = report(rows, zone=ZoneInfo("Europe/Berlin"))

    hours = [row[0].hour for row in rows_of(book_of(rows, counted=berlin), "Запросы")]

    assert hours == [14, 13]
