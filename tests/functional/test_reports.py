"""The results page: statistics, filters and states on real rows."""

import html
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, quote, urlsplit
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from flask.testing import FlaskClient

from project.domain.errors import DatabaseUnavailableError, OverloadedError, QueryTimeoutError, RefusalError
from project.domain.reports import Bucket
from project.reports import page_data
from project.reports.charts import bucket_label
from project.services import reports as service
from tests.builders import ANNA, HTML, IVAN, log_in, useradd
from tests.conftest import Rows
from tests.functional.attempts import INVALID_PHONE, ago, keep

MOSCOW = ZoneInfo("Europe/Moscow")
EVIL = '<img src=x onerror="alert(1)">'


def text_of(page: str) -> str:
    """Return the text of a page without tags."""
    body = re.sub(r"<(script|style)[^>]*>.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def headline_numbers(page: str) -> list[str]:
    """Return the headline numbers: all, created, rejected, failed, milliseconds."""
    return [number.replace("\xa0", "") for number in re.findall(r"<dd><b>(?:<a[^>]*>)?([^<]*)<", page)]


def logins(page: str) -> list[str]:
    """Return the logins of the rows from top to bottom."""
    table = page.partition('<table id="rows"')[2].partition("</table>")[0]
    cells = re.findall(r'<td class="who">(.*?)(?:<span class="name|</td>)', table)
    return [re.sub(r"<[^>]+>", "", cell) for cell in cells]


def links(page: str, text: str) -> list[str]:
    """Return the targets of the links whose text contains `text`."""
    found = re.findall(r'<a [^>]*?href="([^"]*)"[^>]*>(.*?)</a>', page, re.DOTALL)
    return [address.replace("&amp;", "&") for address, inner in found if text in text_of(inner)]


def show(reader: FlaskClient, query: str = "") -> str:
    """Return the results page."""
    response = reader.get(f"/results/{query}")
    assert response.status_code == 200, response.text
    return response.text


# Access


def test_the_front_page_redirects_to_the_statistics(client: FlaskClient) -> None:
    response = client.get("/")

    assert (response.status_code, response.headers["Location"]) == (302, "/results/")


@pytest.mark.parametrize(
    "address",
    [
        "/results/?period=30d&q=%D0%98",
        "/results/0190b0e5-0000-7000-8000-000000000000/",
        "/results/export.txt",
        "/results/export.xlsx",
        "/results/export.csv",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_anonymous_browsers_are_redirected_to_the_login_and_back(
    client: FlaskClient, address: str, method: str
) -> None:
    response = client.open(address, method=method, headers=HTML)

    assert response.status_code == 302
    location = urlsplit(response.headers["Location"])
    assert location.path == "/login/"
    assert parse_qs(location.query)["next"] == [address]


def test_a_login_returns_to_the_page_with_its_filter(client: FlaskClient) -> None:
    password = useradd(client, IVAN).json["password"]  # type: ignore[index]
    redirect = client.get("/results/?period=30d&q=%D0%98%D0%B2%D0%B0%D0%BD+1&result=created")

    query = "?" + urlsplit(redirect.headers["Location"]).query
    response = log_in(client, "petrov.ivan", password, query)

    assert response.headers["Location"] == "/results/?period=30d&q=%D0%98%D0%B2%D0%B0%D0%BD+1&result=created"


# Statistics


def test_the_statistics_add_up_and_the_latest_row_is_on_top(reader: FlaskClient) -> None:
    useradd(reader, ANNA)
    useradd(reader, ANNA | {"email": "other@example.org", "phone": None})
    useradd(reader, {"name": "x", "username": "no.contact"})
    reader.post("/useradd?dry_run=true", json=ANNA | {"username": "b", "email": "b@example.org", "phone": None})

    page = show(reader)

    assert headline_numbers(page)[:4] == ["5", "2", "2", "0"]
    assert "1 без нового пользователя (20,0 %): проверка или повтор" in text_of(page)
    assert logins(page) == ["b", "no.contact", "a.sokolova", "a.sokolova", "petrov.ivan"]
    assert "1–5 из 5" in text_of(page)


def test_shares_are_shown_for_the_outcomes(reader: FlaskClient, app: Flask) -> None:
    for number in range(11):
        keep(app, ago(minutes=number), status=422, code="blank")

    page = text_of(show(reader))

    assert "8,3 % запросов" in page
    assert "91,7 % — ошибка в запросе, код 4xx" in page


def test_the_previous_period_is_compared_only_if_it_was_recorded_completely(reader: FlaskClient, app: Flask) -> None:
    for number in range(4):
        keep(app, ago(days=8, minutes=number))
    incomplete = text_of(show(reader))
    keep(app, ago(days=40))

    complete = text_of(show(reader))

    assert "чем за предыдущие" not in incomplete
    assert "на 75 % меньше, чем за предыдущие 7 дней" in complete


def test_response_times_are_shown_as_median_and_percentiles(reader: FlaskClient, app: Flask, rows: Rows) -> None:
    """Aggregates are rounded up: the percentile of 99 ms falls into the bucket up to 100 ms."""
    for number in range(1, 100):
        keep(app, ago(minutes=number), duration_ms=number)
    rows.query("update attempts set duration_ms = 100 where code = 'created' and username = 'petrov.ivan'")

    page = show(reader)

    assert headline_numbers(page)[4] == "50"
    assert "медиана; 95-й перцентиль — 95, 99-й — 100" in text_of(page)


def test_contacts_are_shown_only_masked(reader: FlaskClient) -> None:
    useradd(reader, ANNA)

    page = show(reader)

    assert "+7 912 •••-••-41" in page
    assert "A•••@example.org" in page
    assert "Anna@" not in page
    assert "555-01" not in page


# Periods


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?period=today", ["now", "petrov.ivan"]),
        ("", ["now", "petrov.ivan", "three.days"]),
        ("?period=7d", ["now", "petrov.ivan", "three.days"]),
        ("?period=30d", ["now", "petrov.ivan", "three.days", "twenty.days"]),
        ("?period=all", ["now", "petrov.ivan", "three.days", "twenty.days", "year"]),
    ],
)
def test_a_period_limits_rows_and_statistics(reader: FlaskClient, app: Flask, query: str, expected: list[str]) -> None:
    moments = {"now": ago(), "three.days": ago(days=3), "twenty.days": ago(days=20), "year": ago(days=400)}
    for login, moment in moments.items():
        keep(app, moment, username=login)

    page = show(reader, query)

    assert logins(page) == sorted(expected, key=["now", "petrov.ivan", "three.days", "twenty.days", "year"].index)
    assert headline_numbers(page)[0] == str(len(expected))


def test_days_are_those_of_the_selected_time_zone(reader: FlaskClient, app: Flask) -> None:
    keep(app, datetime(2026, 3, 9, 20, 59, tzinfo=UTC), username="ninth.in.moscow")
    keep(app, datetime(2026, 3, 9, 21, 0, tzinfo=UTC), username="tenth.in.moscow")

    moscow = show(reader, "?from=2026-03-10&to=2026-03-10")
    utc = show(reader, "?from=2026-03-09&to=2026-03-09&tz=UTC")

    assert logins(moscow) == ["tenth.in.moscow"]
    assert "10 марта 2026" in text_of(moscow)
    assert "московское время (UTC+3)" in text_of(moscow)
    assert logins(utc) == ["tenth.in.moscow", "ninth.in.moscow"]
    assert "время UTC" in text_of(utc)


def test_a_period_can_be_given_to_the_minute(reader: FlaskClient, app: Flask) -> None:
    for minute in (29, 30, 59):
        keep(app, datetime(2026, 3, 10, 9, minute, tzinfo=UTC), username=f"at.{minute}")

    page = show(reader, "?from=2026-03-10T12:30&to=2026-03-10T12:59")

    assert logins(page) == ["at.30"]
    assert 'type="datetime-local" step="any" value="2026-03-10T12:30"' in page


@pytest.mark.parametrize(
    "address",
    [
        "/results/?code=blank&period=all",
        "/results/?q=ahead&period=all",
        "/api/v1/stats/?code=blank",
        *(f"/results/export.{ending}?code=blank&period=all" for ending in ("txt", "csv", "xlsx")),
    ],
)
def test_attempts_of_an_instance_whose_clock_is_ahead_are_shown(reader: FlaskClient, app: Flask, address: str) -> None:
    attempt_id = keep(app, ago(seconds=-30), username="ahead", status=422, code="blank")

    response = reader.get(address, headers={"Accept-Language": "en"}, buffered=True)

    assert response.status_code == 200
    match address.partition("?")[0].rpartition(".")[2]:
        case "xlsx":
            assert response.data.startswith(b"PK")
        case "txt" | "csv":
            assert str(attempt_id) in response.text
        case _ if address.startswith("/api"):
            assert response.get_json()["total"] == 1
        case _:
            assert logins(response.text) == ["ahead"]
            assert headline_numbers(response.text)[0] == "1"


def test_an_end_before_the_start_is_an_error_at_its_field(reader: FlaskClient) -> None:
    response = reader.get("/results/?period=dates&from=2026-03-11&to=2026-03-10")

    assert response.status_code == 400
    assert re.search(r'<input id="to"[^>]*aria-invalid="true" aria-describedby="to-error"', response.text)
    assert "Конец раньше начала." in text_of(response.text)


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31", "2026-02-30", "x", "1" * 400, "2026-W53-9"])
def test_invalid_days_are_ignored_with_a_message(reader: FlaskClient, day: str) -> None:
    page = show(reader, f"?from={day}&to={day}")

    assert "Неизвестное значение не учтено" in text_of(page)


# Filters


@pytest.fixture
def varied(reader: FlaskClient, app: Flask) -> FlaskClient:
    """A logged-in browser and one attempt of each kind."""
    keep(app, ago(minutes=50), username="anna.one", phone="+7 912 •••-••-41", email="a•••@example.org")
    keep(app, ago(minutes=40), status=422, code="invalid_phone", username="boris", errors=(INVALID_PHONE,))
    keep(app, ago(minutes=30), status=422, code="invalid_email", username="anna.two")
    keep(app, ago(minutes=20), status=409, code="username_taken", username="viktor", client_request_id="order-17")
    keep(app, ago(minutes=10), status=503, code="database_unavailable", username="galina")
    keep(app, ago(minutes=5), status=200, code="dry_run", username="dmitry")
    return reader


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?result=created", ["petrov.ivan", "anna.one"]),
        ("?result=rejected", ["viktor", "anna.two", "boris"]),
        ("?result=failed", ["galina"]),
        ("?result=unchanged", ["dmitry"]),
        ("?result=rejected&result=failed", ["galina", "viktor", "anna.two", "boris"]),
        ("?result=rejected,failed", ["galina", "viktor", "anna.two", "boris"]),
        ("?code=invalid_phone", ["boris"]),
        ("?code=invalid_phone&code=invalid_email", ["anna.two", "boris"]),
        ("?status=409", ["viktor"]),
        ("?status=409&status=503", ["galina", "viktor"]),
        ("?result=rejected&status=422&q=anna", ["anna.two"]),
        ("?q=anna", ["anna.two", "anna.one"]),
        ("?q=ANNA.T", ["anna.two"]),
        ("?q=%3Danna.one", ["anna.one"]),
        ("?q=%3D+anna.one", ["anna.one"]),
        ("?q=%3Danna", []),
        ("?q=8+(912)+555-01-41", ["anna.one"]),
        ("?q=anna%40example.org", ["anna.one"]),
        ("?q=order-17", ["viktor"]),
        ("?q=100%25", []),
        ("?q=%00%ED%A0%80", []),
    ],
)
def test_filters_select_rows_and_statistics(varied: FlaskClient, query: str, expected: list[str]) -> None:
    page = show(varied, query)

    assert logins(page) == expected
    assert headline_numbers(page)[:1] == ([str(len(expected))] if expected else [])


def test_a_request_id_is_found_outside_of_the_period(reader: FlaskClient, app: Flask) -> None:
    old = keep(app, ago(days=300), username="long.ago")

    page = show(reader, f"?period=today&q={old}")

    assert logins(page) == ["long.ago"]


def test_unknown_filter_values_are_ignored_and_named(varied: FlaskClient) -> None:
    page = show(varied, "?period=century&result=rejected&code=nonsense&status=99&before=x&from=y&tz=Mars")

    assert logins(page) == ["viktor", "anna.two", "boris"]
    text = text_of(page)
    for value in ("century", "nonsense", "99", "Mars", "x"):
        assert f"«{value}»" in text


def test_filters_are_shown_as_chips_that_remove_them(varied: FlaskClient) -> None:
    page = show(varied, "?period=30d&result=rejected&code=invalid_phone&status=422&q=bor")

    (chip,) = links(page, "Причина: Некорректный телефон")
    assert parse_qs(urlsplit(chip).query) == {
        "period": ["30d"],
        "result": ["rejected"],
        "status": ["422"],
        "q": ["bor"],
    }
    (chip,) = links(page, "Поиск: bor")
    assert "q" not in parse_qs(urlsplit(chip).query)
    assert links(page, "Сбросить все") == ["/results/"]


def test_the_form_shows_the_selected_filters(varied: FlaskClient) -> None:
    page = show(varied, "?period=30d&result=rejected,failed&code=invalid_phone&status=422&q=bor&tz=UTC")

    assert '<a href="/results/?period=30d&amp;result=rejected' in page
    assert '<input type="hidden" name="period" value="30d">' in page
    assert '<option value="rejected,failed" selected>' in page
    assert '<option value="invalid_phone" selected>' in page
    assert '<input type="hidden" name="status" value="422">' in page
    assert '<input type="hidden" name="tz" value="UTC">' in page
    assert 'value="bor"' in page


# Facets and the chart


def facet(page: str, heading: str) -> list[tuple[str, str, bool]]:
    """Return code, count and whether it is selected, for each line of a facet."""
    section = page.partition(f'<h2 id="{heading}">')[2].partition("</section>")[0]
    found = re.findall(r'<a href="[^"]*"( aria-current="true")?>.*?<code>(.*?)</code>.*?"count">(.*?)<', section)
    return [(code, count, bool(current)) for current, code, count in found]


def test_a_facet_ignores_its_own_filter_and_marks_the_selected_value(varied: FlaskClient) -> None:
    page = show(varied, "?code=invalid_phone")

    assert facet(page, "why") == [
        ("database_unavailable", "1", False),
        ("invalid_email", "1", False),
        ("invalid_phone", "1", True),
        ("username_taken", "1", False),
    ]
    assert facet(page, "st") == [("422", "1", False)]


def test_the_status_facet_ignores_its_own_filter(varied: FlaskClient) -> None:
    page = show(varied, "?status=422")

    assert ("422", "2", True) in facet(page, "st")
    assert len(facet(page, "st")) == 5
    assert [code for code, _, _ in facet(page, "why")] == ["invalid_email", "invalid_phone"]


def test_a_facet_value_replaces_the_selected_one_and_the_selected_one_removes_itself(varied: FlaskClient) -> None:
    page = show(varied, "?code=invalid_phone&q=o")

    (selected,) = links(page, "Некорректный телефон invalid_phone 1")
    (other,) = links(page, "Такой логин уже занят username_taken 1")
    assert parse_qs(urlsplit(selected).query) == {"q": ["o"]}
    assert parse_qs(urlsplit(other).query) == {"code": ["username_taken"], "q": ["o"]}


def columns(page: str) -> list[tuple[str, str]]:
    """Return address and title of each column of the chart."""
    chart = page.partition('<svg class="columns"')[2].partition("</svg>")[0]
    found = re.findall(r'<a href="([^"]*)" tabindex="-1"><title>(.*?)</title>', chart, re.DOTALL)
    return [(address.replace("&amp;", "&"), title) for address, title in found]


def test_a_column_links_to_the_requests_that_it_counts(varied: FlaskClient, app: Flask) -> None:
    keep(app, ago(days=3), username="alone")

    filled = [(address, title) for address, title in columns(show(varied)) if "создано: 1\n" in title]
    address, title = filled[0]

    assert "отказы: 0" in title
    assert logins(varied.get(address).text) == ["alone"]


def test_the_chart_has_a_table_with_the_same_data(varied: FlaskClient, app: Flask) -> None:
    keep(app, datetime(2026, 3, 9, 9, tzinfo=UTC))
    keep(app, datetime(2026, 3, 10, 9, tzinfo=UTC), status=422, code="blank")

    page = show(varied, "?from=2026-03-09&to=2026-03-10")

    table = page.partition("<details>")[2].partition("</details>")[0]
    assert "пн, 9 марта 1 0 0 вт, 10 марта 0 1 0" in text_of(table)


@pytest.mark.parametrize(
    ("query", "step", "most"),
    [
        ("?from=2026-03-10&to=2026-03-10", "30 минут", 48),
        ("?from=2026-03-04&to=2026-03-10", "3 часа", 56),
        ("?from=2026-03-01&to=2026-03-30", "день", 30),
        ("?from=2026-01-01&to=2026-06-30", "неделя", 27),
        ("?from=2024-01-01&to=2026-06-30", "1 месяц", 36),
        ("?from=2015-01-01&to=2026-06-30", "3 месяца", 60),
    ],
)
def test_a_chart_has_at_most_sixty_columns(reader: FlaskClient, app: Flask, query: str, step: str, most: int) -> None:
    keep(app, datetime(2026, 3, 10, 9, 10, tzinfo=UTC))

    page = show(reader, query)

    assert f"Столбец — {step}." in text_of(page)
    assert 0 < len(columns(page)) <= min(most, 60)


def spread(app: Flask, counts: Sequence[int]) -> datetime:
    """Store `counts` rejections per three hours of the past days, with ten created users each."""
    midnight = datetime.now(MOSCOW).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=3)
    for index, count in enumerate(counts):
        start = midnight + timedelta(hours=3 * index)
        for number in range(10):
            keep(app, start + timedelta(minutes=number))
        for number in range(count):
            keep(app, start + timedelta(minutes=20, seconds=number), status=409, code="username_taken")
    return midnight


def test_an_unusual_number_of_rejections_is_highlighted(reader: FlaskClient, app: Flask) -> None:
    spread(app, [1, 1, 1, 40, 1, 1, 1])

    page = show(reader)

    assert "09:00–12:00: отказов в 40 раз больше обычного — 40, почти все: «Такой логин уже занят»." in text_of(page)
    (look,) = links(page, "Посмотреть")
    assert headline_numbers(reader.get(look).text)[2] == "40"


@pytest.mark.parametrize("counts", [[1, 1, 1, 19, 1, 1, 1], [20, 20, 20, 40, 20, 20, 20], [0, 40]])
def test_a_usual_number_of_rejections_is_not_highlighted(reader: FlaskClient, app: Flask, counts: list[int]) -> None:
    spread(app, counts)

    assert "Посмотреть" not in text_of(show(reader))


# Rows


def test_paging_in_both_directions_loses_no_row(reader: FlaskClient, app: Flask) -> None:
    for number in range(59):
        keep(app, ago(minutes=1, seconds=number), username=f"u{number:02}")

    seen, page = [], show(reader)
    forward = [logins(page)]
    while older := links(page, "Старее"):
        page = reader.get(older[0]).text
        forward.append(logins(page))
    backward = [logins(page)]
    while newer := links(page, "Новее"):
        page = reader.get(newer[0]).text
        backward.append(logins(page))
    seen = [login for rows in forward for login in rows]

    assert [len(rows) for rows in forward] == [25, 25, 10]
    assert seen == ["petrov.ivan", *(f"u{number:02}" for number in range(59))]
    assert backward == forward[::-1]


def test_paging_keeps_the_filter(reader: FlaskClient, app: Flask) -> None:
    for number in range(30):
        keep(app, ago(minutes=number), status=422, code="blank", username=f"u{number}")

    (older,) = links(show(reader, "?result=rejected&period=30d"), "Старее")

    assert parse_qs(urlsplit(older).query).keys() == {"result", "period", "before"}
    assert len(logins(reader.get(older).text)) == 5


def test_data_of_clients_are_escaped(reader: FlaskClient, app: Flask) -> None:
    attempt_id = keep(app, ago(), username=EVIL, name=EVIL, phone=EVIL, user_agent=EVIL, client_request_id=EVIL)

    for address in ("/results/", f"/results/?q={EVIL}", f"/results/?code={EVIL}", f"/results/{attempt_id}/"):
        page = reader.get(address).text
        assert "<img" not in page
        assert "&lt;img src=x onerror=" in page


# States


def test_a_filter_without_matches_offers_all_time(reader: FlaskClient, app: Flask) -> None:
    for number in range(3):
        keep(app, ago(days=100 + number), username="petrov.long.ago")

    page = show(reader, "?q=petrov.long")

    assert "Нет запросов, подходящих под фильтр" in text_of(page)
    assert "За всё время найдено 3 запроса." in text_of(page)
    (everywhere,) = links(page, "Искать за всё время")
    assert len(logins(reader.get(everywhere).text)) == 3


def test_a_filter_without_matches_at_any_time_offers_nothing(reader: FlaskClient) -> None:
    page = show(reader, "?q=nobody")

    assert "И за всё время тоже." in text_of(page)
    assert links(page, "Искать за всё время") == []


def test_before_the_first_request_an_example_is_shown(reader: FlaskClient, rows: Rows) -> None:
    rows.query("alter table users drop constraint users_id_attempt_status_fkey")
    try:
        rows.query("delete from attempts")
        page = show(reader)
    finally:
        rows.query("delete from users")
        rows.query(
            "alter table users add constraint users_id_attempt_status_fkey"
            " foreign key (id, attempt_status) references attempts (id, status)"
        )

    assert "Запросов ещё не было" in text_of(page)
    assert "curl -i http://localhost/api/v1/useradd/" in page


def too_slow(*_: object, **__: object) -> None:
    """Fail like a query that PostgreSQL cancels."""
    raise QueryTimeoutError


def test_a_search_whose_hits_take_too_long_to_count_is_reported_and_rows_are_shown(
    reader: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(app, ago(minutes=5), username="petrov.older")
    monkeypatch.setattr(page_data, "PAGE_SIZE", 1)
    monkeypatch.setattr(service, "build_report", too_slow)

    page = show(reader, "?q=petrov")

    assert "Слишком широкий поиск: сузьте период" in text_of(page)
    assert logins(page) == ["petrov.ivan"]


@pytest.mark.parametrize(
    ("error", "title"),
    [(DatabaseUnavailableError, "База данных не отвечает"), (OverloadedError, "Сервис перегружен")],
)
def test_a_failed_page_says_why_and_never_that_all_is_well(
    reader: FlaskClient, monkeypatch: pytest.MonkeyPatch, error: type[RefusalError], title: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(service, "build_report", fail)

    response = reader.get("/results/", headers=HTML)

    assert response.status_code == 503
    assert title in text_of(response.text)
    assert "Сейчас статистика недоступна." in text_of(response.text)
    assert "всё работает" not in response.text.lower()  # neither now nor by the script later
    assert 'id="state" class="state away"' in response.text
    assert int(response.headers["Retry-After"]) > 0


def test_facets_that_take_too_long_are_omitted(varied: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "count_reasons", too_slow)

    page = show(varied, "?code=invalid_phone")

    assert "Статусы HTTP" not in text_of(page)
    assert logins(page) == ["boris"]


# Language and theme


def test_a_link_changes_the_language_keeps_the_filter_and_is_remembered(reader: FlaskClient) -> None:
    page = show(reader, "?period=30d&q=petrov")
    (english,) = links(page, "Eng")
    assert parse_qs(urlsplit(english).query) == {"period": ["30d"], "q": ["petrov"], "lang": ["en"]}

    first = reader.get(f"/results/{english}")
    second = reader.get("/results/")

    for response in (first, second):
        assert '<html lang="en"' in response.text
        assert "Requests to create users" in text_of(response.text)
        assert not re.search("[а-яё]", re.sub(r"Рус|Петров|Иван", "", text_of(response.text)), re.IGNORECASE)


def test_numbers_and_dates_are_formatted_in_the_selected_language(reader: FlaskClient, app: Flask) -> None:
    keep(app, datetime(2026, 3, 9, 9, tzinfo=UTC))

    page = text_of(show(reader, "?from=2026-03-09&to=2026-03-10&lang=en"))

    assert "9–10 March 2026" in page
    assert "Moscow time (UTC+3)" in page
    assert "100% of requests" in page


@pytest.mark.parametrize(("cookie", "rendered"), [("dark", ' data-theme="dark"'), ("light", ' data-theme="light"')])
def test_the_selected_theme_is_rendered(reader: FlaskClient, cookie: str, rendered: str) -> None:
    reader.set_cookie("theme", cookie)

    assert f'<html lang="ru"{rendered}>' in show(reader)


def test_an_unknown_theme_is_ignored(reader: FlaskClient) -> None:
    reader.set_cookie("theme", '"><script>')

    assert '<html lang="ru">' in show(reader)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("2026-11-23T14:03:49.010257", 'type="datetime-local" step="any" value="2026-11-23T14:03:49.010"'),
        ("2026-W48-1", 'type="date" value="2026-11-23"'),
        ("2026-11-23T09:30Z", 'type="datetime-local" step="any" value="2026-11-23T12:30"'),
        ("20261123", 'type="date" value="2026-11-23"'),
    ],
)
def test_an_input_shows_a_period_of_any_form_in_its_own(reader: FlaskClient, sent: str, shown: str) -> None:
    page = show(reader, f"?from=2026-11-01&to={sent}")

    assert f'id="to" name="to" {shown}' in page


@pytest.mark.parametrize(
    "sought",
    [
        *("9125550141", "(912) 555-01-41", "+7 912 •••-••-41", "89125550141", "8 (912) 555-01-41", "+79125550141"),
        *("tel:+7-912-555-01-41", "0141", "555-01-41", "79125550141"),
    ],
)
def test_a_phone_is_found_in_any_spelling_by_its_last_digits_and_as_the_page_shows_it(
    reader: FlaskClient, app: Flask, sought: str
) -> None:
    keep(app, ago(minutes=5), username="with.phone", phone="+79125550141")
    keep(app, ago(minutes=5), username="another.phone", phone="+79125550142")

    page = show(reader, f"?q={quote(sought)}")

    assert "with.phone" in page
    assert "another.phone" not in page


def test_a_repeated_hour_has_columns_labelled_by_their_offsets(app: Flask) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    first, second = (datetime(2026, 10, 25, hour, tzinfo=UTC).astimezone(berlin) for hour in (0, 1))

    with app.test_request_context():
        labels = [bucket_label(Bucket(since, since + timedelta(minutes=30), 0, 0, 0, 0)) for since in (first, second)]

    assert [label.rpartition(" (")[2] for label in labels] == ["UTC+2)", "UTC+1)"]
