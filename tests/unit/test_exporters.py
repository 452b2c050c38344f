"""Exported files: translations, file names, .txt and .csv."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from project.domain.attempts import AttemptFilter, AttemptRow, Outcome, lowest_id
from project.domain.errors import FieldError
from project.domain.lines import Block, Layout
from project.domain.masking import mask_phone
from project.domain.messages import Messages
from project.domain.reports import Bucket, CodeCount, Durations, Report, StatusCount, day_edges
from project.exporters import RAW_STREAMS
from project.exporters import csv as csv_file
from project.exporters import text as text_file
from project.exporters.names import file_name
from project.exporters.translations import Heading, Translations
from tests.lines import lines_of

MOSCOW = ZoneInfo("Europe/Moscow")
NOON = datetime(2026, 11, 23, 9, 0, 0, 999_999, tzinfo=UTC)
RUSSIAN = {
    "Requests to create users": "Запросы на создание пользователей",
    "Period": "Период",
    "Exported": "Сформировано",
    "Totals": "Итого",
    "All requests": "Всего запросов",
    "Users created": "Создано пользователей",
    "Rejected (4xx)": "Отказы (4xx)",
    "Service failures (5xx)": "Сбои сервиса (5xx)",
    "No user created (dry runs and repeats)": "Пользователь не создан (проверки и повторы)",
    "Median, ms": "Медиана, мс",
    "95th percentile, ms": "95-й перцентиль, мс",
    "99th percentile, ms": "99-й перцентиль, мс",
    "HTTP statuses": "Статусы HTTP",
    "Why no user was created": "Причины отказов",
    "By day": "По дням",
    "Requests by day": "Запросы по дням",
    "Day": "День",
    "Weekday": "День недели",
    "What to fix": "Что исправить",
    "Total": "Всего",
    "Created": "Создано",
    "Rejected": "Отказы",
    "Failures": "Сбои",
    "No user created": "Пользователь не создан",
    "Requests": "Запросы",
    "tab-separated columns: paste them into a spreadsheet as they are": (
        "столбцы разделены табуляцией, вставляются в таблицу как есть"
    ),
    "Time": "Время",
    "Result": "Результат",
    "Status": "Статус",
    "Code": "Код",
    "Reason": "Причина",
    "Login": "Логин",
    "Name": "Имя",
    "Phone": "Телефон",
    "E-mail": "Почта",
    "Response, ms": "Ответ, мс",
    "Request ID": "ID запроса",
    "created": "создан",
    "rejected": "отказ",
    "failed": "сбой",
    "no user created": "не создан",
    "Summary": "Сводка",
    "By error": "По ошибкам",
    "Share": "Доля",
    "The phone number is not valid": "Некорректный телефон",
    "The database does not answer": "База данных не отвечает",
    "Dry run: no errors": "Проверка без создания: ошибок нет",
    "Conflict": "Конфликт",
    "Wrong data": "Ошибка в данных",
    "Service unavailable": "Сервис недоступен",
    "Nothing created": "Ничего не создано",
}
REASONS = {
    "invalid_phone": "The phone number is not valid",
    "database_unavailable": "The database does not answer",
    "dry_run": "Dry run: no errors",
}
STATUSES = {
    200: "Nothing created",
    201: "Created",
    409: "Conflict",
    422: "Wrong data",
    503: "Service unavailable",
}


def messages(**fields: str) -> Messages:
    """Return messages with these labels of fields."""
    sentences = {
        ("invalid_phone", ""): "There is no such phone number.",
        ("invalid_phone", "too_short"): "The number is too short.",
        ("invalid_email", ""): "This is not an e-mail address.",
        ("unknown_field", ""): "There is no such field.",
        ("unknown_field", "hint"): "There is no such field. Did you mean %(hint)s?",
    }
    return Messages(fields=fields, sentences=sentences)


def _english_plural(singular: str, plural: str, num: int, /, **variables: object) -> str:
    return (singular if num == 1 else plural) % variables


def _russian_plural(singular: str, plural: str, num: int, /, **variables: object) -> str:
    assert (singular, plural) == ("End: %(rows)s row", "End: %(rows)s rows")
    few = num % 10 in (2, 3, 4) and num % 100 not in (12, 13, 14)
    one = num % 10 == 1 and num % 100 != 11
    return "Конец: %(rows)s {}".format("строка" if one else "строки" if few else "строк") % variables


ENGLISH_TRANSLATIONS = Translations(
    language="en",
    gettext=str,
    ngettext=_english_plural,
    reason=lambda code: REASONS.get(code, code),
    status=lambda status: STATUSES.get(status, "No response"),
    messages=messages(phone="Phone", email="E-mail"),
)
RUSSIAN_TRANSLATIONS = Translations(
    language="ru",
    gettext=RUSSIAN.__getitem__,
    ngettext=_russian_plural,
    reason=lambda code: RUSSIAN[REASONS[code]],
    status=lambda status: RUSSIAN[STATUSES[status]],
    messages=messages(phone="Телефон", email="Почта"),
)
HEADING = Heading(
    period="17.11.2026 — 23.11.2026",
    zone="время московское (UTC+3)",
    filters=(("Результат", "все"), ("Поиск", "—")),
    selected="",
    exported_by="petrov.ivan",
    exported_at=datetime(2026, 11, 23, 12, 4, 12, tzinfo=UTC),
)


def attempt_row(**changes: Any) -> AttemptRow:
    """Return a created user's attempt, with these fields changed."""
    received_at = changes.get("received_at", NOON)
    row = AttemptRow(
        id=lowest_id(received_at),
        received_at=received_at,
        status=201,
        answered=201,
        code="created",
        via="direct",
        method="POST",
        duration_ms=17,
        username="a.sokolova",
        name="Анна Соколова",
        phone_masked="+7 912 •••-••-41",
        email_masked="a•••@example.org",
        errors=(),
    )
    return replace(row, **changes)


REJECTED: dict[str, Any] = {
    "status": 422,
    "answered": 422,
    "code": "invalid_phone",
    "errors": (FieldError("phone", "invalid_phone", "too_short"), FieldError("email", "invalid_email")),
}
FAILED: dict[str, Any] = {"status": 503, "answered": 503, "code": "database_unavailable"}
DRY_RUN: dict[str, Any] = {"status": 200, "answered": 200, "code": "dry_run"}


def report(rows: Sequence[AttemptRow] = (), **changes: Any) -> Report:
    """Return the report on these attempts by day."""
    since, until = datetime(2026, 11, 16, 21, tzinfo=UTC), datetime(2026, 11, 23, 21, tzinfo=UTC)
    edges = day_edges(since, until, MOSCOW)
    counted = Report(
        attempt_filter=AttemptFilter(since=since, until=until),
        zone=MOSCOW,
        since=since,
        until=until,
        step="day",
        by_status=tuple(StatusCount(*pair) for pair in sorted(Counter(row.status for row in rows).items())),
        by_code=tuple(
            CodeCount(code, status, count)
            for (code, status), count in Counter((row.code, row.status) for row in rows).most_common()
        ),
        series=tuple(_bucket(rows, edge, edge + timedelta(days=1)) for edge in edges[:-1]),
        durations=Durations(41, 128, 1310) if rows else None,
    )
    return replace(counted, **changes)


def _bucket(rows: Iterable[AttemptRow], since: datetime, until: datetime) -> Bucket:
    counts = Counter(row.outcome for row in rows if since <= row.received_at < until)
    return Bucket(since, until, *(counts[outcome] for outcome in Outcome))


def text_of(
    rows: Sequence[AttemptRow], translations: Translations = RUSSIAN_TRANSLATIONS, heading: Heading = HEADING
) -> str:
    """Return the .txt file, decoded, without its byte order mark."""
    return b"".join(text_file.stream(lambda: report(rows), lines_of(rows), heading, translations)).decode("utf-8-sig")


def log_lines(text: str) -> list[list[str]]:
    """Return the rows of a .txt file as cells without their padding, without the header."""
    return [[cell.rstrip(" ") for cell in line.split("\t")] for line in text.split("\r\n") if line.count("\t") > 1][1:]


def count_too_early() -> Report:
    """Fail: the start of the file must be sent before anything is counted."""
    raise AssertionError("counted too early")


def query_too_early(layout: Layout) -> Iterator[Block]:
    """Act as a database that has not answered yet."""
    assert not layout.columns, "rows were queried before the file started"
    yield Block(0, b"")


def csv_of(rows: Sequence[AttemptRow], stream: Callable[..., Iterator[bytes]] = csv_file.stream) -> bytes:
    """Return the .csv file."""
    return b"".join(stream(lambda: report(rows), lines_of(rows), HEADING, ENGLISH_TRANSLATIONS))


# Translations and names


def test_numbers_are_formatted_in_the_readers_language() -> None:
    written = [
        (translations.number(10930), translations.share(922, 1000))
        for translations in (RUSSIAN_TRANSLATIONS, ENGLISH_TRANSLATIONS)
    ]

    assert written == [("10\xa0930", "92,2\xa0%"), ("10,930", "92.2%")]


@pytest.mark.parametrize(
    ("part", "shown"),
    [(0, "0%"), (1, "<0.1%"), (100, "0.1%"), (99_900, "99.9%"), (99_999, ">99.9%"), (100_000, "100%")],
)
def test_rounding_never_hides_a_single_attempt(part: int, shown: str) -> None:
    written = ENGLISH_TRANSLATIONS.share(part, 100_000)

    assert written == shown


@pytest.mark.parametrize(("part", "shown"), [(119, "6.0%"), (13, "0.7%"), (1987, "99.4%"), (5, "0.3%")])
def test_shares_are_rounded_like_in_spreadsheets(part: int, shown: str) -> None:
    written = ENGLISH_TRANSLATIONS.share(part, 2000)

    assert written == shown


def test_a_share_of_nothing_is_a_dash() -> None:
    written = ENGLISH_TRANSLATIONS.share(0, 0)

    assert written == "—"


def test_times_are_shown_in_the_time_zone_of_the_report() -> None:
    midnight_in_moscow = datetime(2026, 11, 22, 21, 0, tzinfo=UTC)

    written = [
        translations.moment(midnight_in_moscow, MOSCOW) for translations in (RUSSIAN_TRANSLATIONS, ENGLISH_TRANSLATIONS)
    ]

    assert written == ["23.11.2026 00:00:00", "2026-11-23 00:00:00"]


def test_a_file_is_named_after_its_first_and_last_day() -> None:
    name = file_name(report(), "xlsx")

    assert name == "useradd_2026-11-17_2026-11-23.xlsx"


def test_a_file_without_a_period_is_named_after_its_last_day() -> None:
    until_now = datetime(2026, 11, 24, 20, 59, 59, 500_000, tzinfo=UTC) + timedelta(seconds=1)

    name = file_name(report(attempt_filter=AttemptFilter(), until=until_now), "txt")

    assert name == "useradd_all_2026-11-24.txt"


@pytest.mark.parametrize(
    ("filters", "suffix"),
    [
        ({"outcomes": {Outcome.REJECTED}}, "_rejected"),
        ({"outcomes": {Outcome.FAILED, Outcome.REJECTED}}, "_rejected_failed"),
        ({"codes": {"invalid_phone"}}, "_invalid_phone"),
        ({"codes": {"invalid_phone", "invalid_email"}}, "_codes"),
        ({"statuses": {422, 409}}, "_409_422"),
        ({"text": "анна/../"}, "_search"),
        ({"client_address": "10.0.0.1"}, "_search"),
        (
            {"outcomes": {Outcome.REJECTED}, "codes": {"blank"}, "statuses": {422}, "text": "a"},
            "_rejected_blank_422_search",
        ),
        ({"codes": {"../etc/passwd"}}, ""),
        ({"codes": {'a"\r\nX-Evil: 1'}}, ""),
        ({"codes": {"ошибка"}}, ""),
    ],
)
def test_a_file_name_names_the_filters_in_ascii(filters: dict[str, Any], suffix: str) -> None:
    shown = report(attempt_filter=AttemptFilter(since=NOON, **filters), since=NOON)

    name = file_name(shown, "csv")

    assert name == f"useradd_2026-11-23_2026-11-23{suffix}.csv"


def test_the_file_of_a_period_without_attempts_has_a_name() -> None:
    name = file_name(report(attempt_filter=AttemptFilter(until=NOON), since=None, until=NOON), "csv")

    assert name == "useradd_2026-11-23_2026-11-23.csv"


# .txt


def test_the_txt_has_a_byte_order_mark_and_crlf_for_notepad_and_excel() -> None:
    rows = [attempt_row()]

    content = b"".join(text_file.stream(lambda: report(rows), lines_of(rows), HEADING, RUSSIAN_TRANSLATIONS))

    assert content.startswith("\ufeffЗАПРОСЫ НА СОЗДАНИЕ ПОЛЬЗОВАТЕЛЕЙ (useradd)\r\n".encode())
    assert content.count(b"\n") == content.count(b"\r\n")
    assert content.count(b"\xef\xbb\xbf") == 1


def test_the_heading_of_the_txt_shows_period_filters_exporter_and_time() -> None:
    text = text_of([attempt_row()])

    assert text.split("\r\n")[2:6] == [
        "Период:        17.11.2026 — 23.11.2026, время московское (UTC+3)",
        "Результат:     все",
        "Поиск:         —",
        "Сформировано:  23.11.2026 15:04:12, petrov.ivan",
    ]


def test_the_title_of_the_txt_names_the_filters() -> None:
    text = text_of([attempt_row()], ENGLISH_TRANSLATIONS, replace(HEADING, selected="rejected, 422"))

    assert text.startswith("REQUESTS TO CREATE USERS: REJECTED, 422 (useradd)\r\n")


def test_the_txt_starts_before_anything_is_counted() -> None:
    first = next(text_file.stream(count_too_early, query_too_early, HEADING, ENGLISH_TRANSLATIONS))

    assert first.startswith(codecs.BOM_UTF8 + b"REQUESTS TO CREATE USERS")


def test_the_totals_of_the_txt_match_its_rows() -> None:
    rows = [attempt_row()] * 1850 + [attempt_row(**REJECTED)] * 134 + [attempt_row(**FAILED)] * 16

    text = text_of(rows).replace("\xa0", " ")

    assert " ".join(text.split()).count("Всего запросов 2 000 100 %") == 1
    outcomes = Counter(cells[1] for cells in log_lines(text))
    assert outcomes == {"создан": 1850, "отказ": 134, "сбой": 16}
    totals = [" ".join(line.split()) for line in text.split("ИТОГО")[1].split("\r\n")[2:6]]
    assert totals[1:] == [
        "Создано пользователей 1 850 92,5 %",
        "Отказы (4xx) 134 6,7 %",
        "Сбои сервиса (5xx) 16 0,8 %",
    ]
    assert "23.11.2026  пн                2 000      1 850        134         16\r\n" in text
    assert "Всего                         2 000      1 850        134         16\r\n" in text


def test_reasons_are_shown_as_text_and_as_codes() -> None:
    rows = [attempt_row(**REJECTED), attempt_row(**REJECTED), attempt_row(**FAILED), attempt_row()]

    lines = text_of(rows).replace("\xa0", " ").split("ПРИЧИНЫ ОТКАЗОВ")[1].split("\r\n")[2:4]

    assert [" ".join(line.split()) for line in lines] == [
        "422 Некорректный телефон 2 50,0 % invalid_phone",
        "503 База данных не отвечает 1 25,0 % database_unavailable",
    ]


@pytest.mark.parametrize(("rows", "mentioned"), [([attempt_row()], False), ([attempt_row(**DRY_RUN)], True)])
def test_dry_runs_are_listed_only_if_there_are_any(rows: list[AttemptRow], mentioned: bool) -> None:
    text = text_of(rows)

    assert ("Пользователь не создан (проверки и повторы)" in text, "Пользователь не создан\r\n" in text) == (
        mentioned,
        mentioned,
    )


def test_a_row_of_the_txt_has_all_columns_of_the_web_page_and_what_to_fix() -> None:
    rows = [attempt_row(), attempt_row(**REJECTED, name=None, email_masked=None)]

    created, rejected = log_lines(text_of(rows))

    number = str(rows[0].id)
    assert created == [
        *("2026-11-23 12:00:00", "создан", "201", "a.sokolova", "Анна Соколова"),
        *("+7 912 •••-••-41", "a•••@example.org", "17", number, "", "", ""),
    ]
    assert rejected == [
        *("2026-11-23 12:00:00", "отказ", "422", "a.sokolova", "", "+7 912 •••-••-41", "", "17", number),
        *("invalid_phone", "Некорректный телефон"),
        "Телефон: The number is too short. Почта: This is not an e-mail address.",
    ]


def test_the_columns_of_the_txt_are_aligned_and_only_values_of_more_than_forty_characters_are_visibly_cut() -> None:
    rows = [
        attempt_row(username="a" * 40, email_masked=None),
        attempt_row(username="б" * 41, name="=" * 41, phone_masked="7" * 40),
        attempt_row(**REJECTED, username=None, duration_ms=1_234_567),
        attempt_row(status=0, answered=None, code="interrupted"),
    ]

    lines = [line for line in text_of(rows, ENGLISH_TRANSLATIONS).split("\r\n") if line.count("\t") > 1]

    offsets = [[match.start() for match in re.finditer("\t", line)][:9] for line in lines]
    assert offsets == [offsets[0]] * 5
    to_the_end = [[match.start() for match in re.finditer("\t", lines[at])] for at in (0, 3, 4)]
    assert to_the_end == [to_the_end[0]] * 3
    assert [cells[3] for cells in log_lines("\r\n".join(lines))] == ["a" * 40, "б" * 39 + "…", "", "a.sokolova"]
    assert log_lines("\r\n".join(lines))[1][4] == "'" + "=" * 38 + "…"


def test_an_interrupted_attempt_is_a_failure_without_a_status() -> None:
    (cells,) = log_lines(text_of([attempt_row(status=0, answered=None, code="interrupted")], ENGLISH_TRANSLATIONS))

    assert [*cells[1:3], *cells[9:11]] == ["failed", "—", "interrupted", "interrupted"]


@pytest.mark.parametrize(
    "value",
    [
        *("=1+1", "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\x00=1", "\n=1", " =1+1", "\ufeff=1"),
        *("\u200b=1", "\xa0=1", "＝1+1"),
    ],
)
@pytest.mark.parametrize("column", ["username", "name", "email_masked", "phone_masked"])
def test_a_value_that_looks_like_a_formula_is_prefixed_with_an_apostrophe(column: str, value: str) -> None:
    (cells,) = log_lines(text_of([attempt_row(**{column: value})]))

    shown = cells[{"username": 3, "name": 4, "phone_masked": 5, "email_masked": 6}[column]]
    harmless = column == "phone_masked" and value == "+1"
    assert shown[0] == ("+" if harmless else "'")
    assert len(shown.lstrip("'")) == len(value)


@pytest.mark.parametrize("phone", ["+79991234567", "+49 30 901820", "+1 212 555 0141"])
def test_a_normalized_phone_number_gets_no_apostrophe(phone: str) -> None:
    (cells,) = log_lines(text_of([attempt_row(phone_masked=mask_phone(phone))]))

    assert cells[5] == mask_phone(phone)


@pytest.mark.parametrize("phone", ["=+7 999 123-45-67", "+7=999=1234567", "@79991234567"])
def test_an_invalid_phone_that_looks_like_a_formula_gets_an_apostrophe(phone: str) -> None:
    (cells,) = log_lines(text_of([attempt_row(phone_masked=mask_phone(phone))]))

    assert cells[5] == "'" + mask_phone(phone)


@pytest.mark.parametrize("breaking", ["\t", "\n", "\r\n", "\x0b", "\x00", "\x1b[31m", "\x85", "\u2028", "\u202e"])
def test_an_attempt_is_always_one_line_of_the_txt(breaking: str) -> None:
    (cells,) = log_lines(text_of([attempt_row(name=f"a{breaking}b", username=f"c{breaking}d")]))

    assert len(cells) == 12
    assert cells[4].isprintable()
    assert (cells[4][0], cells[4][-1]) == ("a", "b")


def test_a_lone_surrogate_in_a_filter_does_not_break_the_txt() -> None:
    heading = replace(HEADING, filters=(("Поиск", "Анна \ud83d!"),))

    text = text_of([], heading=heading)

    assert "Поиск:         Анна  !\r\n" in text


def test_a_filter_cannot_add_lines_or_cells_to_the_heading() -> None:
    heading = replace(HEADING, filters=(("Поиск", "a\r\n=1+1\t=2+2"),))

    text = text_of([], heading=heading)

    assert "Поиск:         a  =1+1 =2+2\r\n" in text


@pytest.mark.parametrize(
    ("count", "translations", "last"),
    [
        (0, RUSSIAN_TRANSLATIONS, "Конец: 0 строк"),
        (1, RUSSIAN_TRANSLATIONS, "Конец: 1 строка"),
        (2000, RUSSIAN_TRANSLATIONS, "Конец: 2\xa0000 строк"),
        (1, ENGLISH_TRANSLATIONS, "End: 1 row"),
        (2000, ENGLISH_TRANSLATIONS, "End: 2,000 rows"),
    ],
)
def test_the_last_line_counts_the_rows(count: int, translations: Translations, last: str) -> None:
    text = text_of([attempt_row()] * count, translations)

    assert text.endswith(f"\r\n\r\n{last}\r\n")


def test_an_aborted_txt_has_no_last_line() -> None:
    def breaking() -> Iterable[AttemptRow]:
        yield from [attempt_row()] * 1200
        raise ConnectionError

    blocks: list[bytes] = []
    with pytest.raises(ConnectionError):
        blocks.extend(text_file.stream(report, lines_of(breaking()), HEADING, ENGLISH_TRANSLATIONS))

    assert b"End:" not in b"".join(blocks)


def test_an_english_txt_contains_no_russian_text() -> None:
    heading = Heading(
        period="all",
        zone="UTC",
        filters=(),
        selected="",
        exported_by="ivan",
        exported_at=datetime(2026, 11, 23, tzinfo=UTC),
    )
    rows = [attempt_row(name="Anna"), attempt_row(**REJECTED, name="Anna"), attempt_row(**DRY_RUN, name="Anna")]

    text = text_of(rows, ENGLISH_TRANSLATIONS, heading)

    assert not any("а" <= letter.lower() <= "я" for letter in text)
    assert "2026-11-23  Mon                   3          1          1          0                1\r\n" in text


def test_a_txt_without_rows_is_complete() -> None:
    text = b"".join(
        text_file.stream(lambda: report(series=(), since=None), lines_of([]), HEADING, ENGLISH_TRANSLATIONS)
    ).decode()

    assert "All requests                                             0         —\r\n" in text
    assert text.endswith("End: 0 rows\r\n")


# .csv


def test_the_csv_has_the_fields_of_the_api_and_what_to_fix() -> None:
    row = attempt_row(**REJECTED, username="a=1+1", name='Анна "Аня", Соколова\r\nвторая строка', via="spool")

    (read,) = csv.DictReader(io.StringIO(csv_of([row]).decode(), newline=""))

    assert read == {
        "id": str(row.id),
        "received_at": "2026-11-23T12:00:00.999999+03:00",
        "outcome": "rejected",
        "status": "422",
        "answered": "422",
        "code": "invalid_phone",
        "username": "a=1+1",
        "name": 'Анна "Аня", Соколова\r\nвторая строка',
        "phone": "+7 912 •••-••-41",
        "email": "a•••@example.org",
        "duration_ms": "17",
        "via": "spool",
        "errors": "phone:invalid_phone;email:invalid_email",
        "what_to_fix": "Phone: The number is too short. E-mail: This is not an e-mail address.",
    }
    assert UUID(read["id"]) == row.id
    assert datetime.fromisoformat(read["received_at"]) == row.received_at


@pytest.mark.parametrize(
    "value", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1+1", "\ufeff=1", "\xa0=1", "＝1+1"]
)
@pytest.mark.parametrize("column", ["username", "name", "email_masked", "phone_masked"])
def test_only_the_raw_csv_has_values_that_look_like_formulas(column: str, value: str) -> None:
    row = attempt_row(**{column: value})

    shown, raw = (
        next(csv.DictReader(io.StringIO(csv_of([row], stream).decode(), newline="")))[column.removesuffix("_masked")]
        for stream in (csv_file.stream, RAW_STREAMS["csv"])
    )

    is_harmless = column == "phone_masked" and value == "+1"
    assert (shown, raw) == (value if is_harmless else f"'{value}", value)


def test_the_csv_is_rfc_4180_without_a_byte_order_mark() -> None:
    content = csv_of([attempt_row(), attempt_row()])

    assert content.startswith(b"id,received_at,outcome,status,answered,code,")
    assert content.count(b"\n") == content.count(b"\r\n") == 3


def test_a_missing_field_is_empty_in_the_csv() -> None:
    row = attempt_row(answered=None, username=None, name=None, phone_masked=None, email_masked=None)

    (read,) = csv.DictReader(io.StringIO(csv_of([row]).decode(), newline=""))

    empty = {name for name, value in read.items() if value == ""}
    assert empty == {"answered", "username", "name", "phone", "email", "errors", "what_to_fix"}


def test_the_csv_has_every_row_in_order() -> None:
    rows = [attempt_row(duration_ms=number) for number in range(1203)]

    read = [int(row["duration_ms"]) for row in csv.DictReader(io.StringIO(csv_of(rows).decode(), newline=""))]

    assert read == list(range(1203))


def test_the_csv_starts_before_anything_is_counted() -> None:
    first = next(csv_file.stream(count_too_early, query_too_early, HEADING, ENGLISH_TRANSLATIONS))

    assert first.startswith(b"id,")
