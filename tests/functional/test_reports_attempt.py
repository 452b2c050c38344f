"""The page of an attempt and the pages of error codes."""

import html
import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import NotFound, TooManyRequests

from project.contract.error_codes import FIELD_CODES, PROBLEMS
from project.domain.errors import DatabaseUnavailableError, OverloadedError
from project.presentation.selection import parse_selection
from project.services import reports as service
from tests.builders import ANNA, HTML, IVAN, KEY, useradd
from tests.conftest import Rows
from tests.functional.attempts import ago, keep
from tests.functional.test_reports import links, text_of

REFUSALS: list[tuple[Exception, int, str]] = [
    (NotFound(), 404, "Не найдено"),
    (TooManyRequests(retry_after=30), 429, "Слишком много запросов"),
    (ZeroDivisionError(), 500, "Ошибка сервиса"),
    (DatabaseUnavailableError(), 503, "База данных не отвечает"),
    (OverloadedError(), 503, "Сервис перегружен"),
]
ABSENT = UUID("0190b0e5-0000-7000-8000-000000000000")


def show(reader: FlaskClient, attempt_id: object, query: str = "") -> str:
    """Return the page of an attempt."""
    response = reader.get(f"/results/{attempt_id}/{query}")
    assert response.status_code == 200, response.text
    return response.text


def shown(page: str, part: str) -> dict[str, Any]:
    """Return the JSON in a part of the page."""
    text = page.partition(f'<pre id="{part}"')[2].partition("<code>")[2].partition("</code>")[0]
    found: dict[str, Any] = json.loads(html.unescape(text))
    return found


def test_the_page_of_a_created_user_shows_the_login_and_hides_the_password(reader: FlaskClient) -> None:
    answer = useradd(reader, ANNA, headers={"Idempotency-Key": KEY, "X-Request-Id": "order-17"})

    page = show(reader, answer.headers["X-Request-Id"])

    assert "Создан 201 Пользователь создан" in text_of(page)
    assert shown(page, "rs-body")["login"] == "a.sokolova"
    assert shown(page, "rs-body")["password"] == "••••••"
    assert answer.json is not None
    assert answer.json["password"] not in page
    assert KEY not in page
    assert "order-17" in page
    assert re.search(r"<code>[0-9a-f]{12}…</code>", page)


@pytest.mark.parametrize(
    ("role", "name", "birth_date"),
    [
        ("user", "Анна С.", "•••"),
        ("auditor", "Анна Соколова", "1990-12-31"),
        ("administrator", "Анна Соколова", "1990-12-31"),
    ],
)
def test_the_request_is_shown_with_masked_contacts_in_the_order_of_the_form(
    reader: FlaskClient, rows: Rows, role: str, name: str, birth_date: str
) -> None:
    answer = useradd(reader, ANNA, headers={"User-Agent": "anna's program"})
    rows.query("update users set role = :role where username = 'petrov.ivan'", role=role)

    page = show(reader, answer.headers["X-Request-Id"])

    assert list(shown(page, "rq-body").items()) == [
        ("name", name),
        ("username", "a.sokolova"),
        ("phone", "8 (912) •••-••-41"),
        ("email", "A•••@Example.org"),
        ("birth_date", birth_date),
    ]
    assert ("anna&#39;s program" in page, "127.0.0.1" in page) == (role != "user", role != "user")


def test_users_see_their_own_request_in_full(reader: FlaskClient, rows: Rows) -> None:
    (user,) = rows.of("users")

    page = show(reader, user["id"])

    assert shown(page, "rq-body")["name"] == "Иван Петров"
    assert "127.0.0.1" in page


@pytest.mark.parametrize("accepted", ["ru", "en"])
@pytest.mark.parametrize(
    "body",
    [
        {"name": "Иван", "username": "x", "phone": "+7 999", "birth_date": "31/12/1990"},
        {"name": "", "username": "и.ivan", "email": "at.example.org", "admin": True},
        IVAN,
        IVAN | {"phone": "+7 912 555-01-41"},
    ],
)
def test_a_refusal_is_shown_as_it_was_sent(reader: FlaskClient, body: dict[str, Any], accepted: str) -> None:
    answer = useradd(reader, body, headers={"Accept-Language": accepted})

    page = show(reader, answer.headers["X-Request-Id"])

    sent = answer.json
    assert sent is not None
    sent.pop("idempotency_key")
    assert shown(page, "rs-body") == sent
    for error in sent["errors"]:
        assert f"<code>{error['field']}</code>" in page
        assert any(f"code={error['code']}" in link for link in links(page, error["code"]))


def test_errors_are_explained_in_the_readers_language(reader: FlaskClient) -> None:
    answer = useradd(reader, {"name": "x", "username": "y"}, headers={"Accept-Language": "en"})

    page = text_of(show(reader, answer.headers["X-Request-Id"]))

    assert "Укажите телефон или почту" in page
    assert str(json.loads(answer.text)["errors"][0]["message"]) in page


def test_details_that_are_not_stored_are_shown_as_an_ellipsis(reader: FlaskClient) -> None:
    answer = reader.post("/useradd", data=b'{"name": ', content_type="application/json")

    page = show(reader, answer.headers["X-Request-Id"])

    assert shown(page, "rs-body")["detail"] == "…"
    assert "Тела запроса не было, или его не удалось прочитать." in text_of(page)


@pytest.mark.parametrize("code", [*PROBLEMS, *FIELD_CODES, "code_of_another_version"])
def test_an_attempt_with_any_code_has_a_page(reader: FlaskClient, app: Flask, code: str) -> None:
    status = PROBLEMS[code].status if code in PROBLEMS else 422
    attempt_id = keep(app, ago(), status=status, code=code)

    page = show(reader, attempt_id)

    assert shown(page, "rs-body")["code"] == code
    assert "%(" not in page


def test_dry_runs_and_replays_are_distinguished(reader: FlaskClient) -> None:
    checked = reader.post("/useradd?dry_run=true", json=ANNA)
    useradd(reader, ANNA, headers={"Idempotency-Key": KEY})
    replayed = useradd(reader, ANNA, headers={"Idempotency-Key": KEY})

    dry_run = show(reader, checked.headers["X-Request-Id"])
    replay = show(reader, replayed.headers["X-Request-Id"])

    assert shown(dry_run, "rs-body")["valid"] is True
    assert "Не создан 200 Проверка без создания: ошибок нет" in text_of(dry_run)
    assert shown(replay, "rs-body")["password"] == "••••••"
    assert "Не создан 200 Повтор: возвращён первый ответ" in text_of(replay)
    assert "Ответ клиенту 201" in text_of(replay)


def test_an_unconfirmed_user_shows_the_status_sent_to_the_client(reader: FlaskClient, app: Flask, rows: Rows) -> None:
    attempt_id = keep(app, ago())
    rows.query("update attempts set answered = 503 where id = :id", id=attempt_id)

    page = show(reader, attempt_id)

    assert "Создан, клиент не знает Пользователь создан" in text_of(page)
    assert "Ответ клиенту 503 Сервис недоступен" in text_of(page)
    assert shown(page, "rs-body")["code"] == "outcome_unknown"


def test_an_interrupted_attempt_has_no_response(reader: FlaskClient, app: Flask, rows: Rows) -> None:
    attempt_id = keep(app, ago(), status=0, code="interrupted")
    rows.query("update attempts set answered = null, via = 'recovered' where id = :id", id=attempt_id)

    page = text_of(show(reader, attempt_id))

    assert "Ответа не было" in page
    assert "восстановлен после перезапуска" in page
    assert "ответ за" not in page


def test_earlier_attempts_of_the_login_are_counted_and_linked(reader: FlaskClient, app: Flask) -> None:
    for minutes in (30, 20, 10):
        keep(app, ago(minutes=minutes), username="anna", status=409, code="username_taken")
    keep(app, ago(minutes=15), username="anna.other")
    current = keep(app, ago(minutes=5), username="anna")
    keep(app, ago(minutes=1), username="anna")

    page = show(reader, current)

    (earlier,) = links(page, "ещё 3 запроса")
    listed = reader.get(earlier).text
    assert "1–3 из 3" in text_of(listed)
    assert "Отказ 409" in text_of(page.partition("Этот человек раньше")[2])


def test_earlier_attempts_of_the_login_are_found_in_another_spelling(reader: FlaskClient, app: Flask) -> None:
    for username in ("petrov.anna", "Petrov.Anna", "ｐｅｔｒｏｖ．ａｎｎａ", "petrov.ann"):
        keep(app, ago(minutes=10), username=username, status=409, code="username_taken")

    page = show(reader, keep(app, ago(minutes=5), username="PETROV.ANNA"))

    (earlier,) = links(page, "ещё 3 запроса")
    assert "1–3 из 3" in text_of(reader.get(earlier).text)


def test_the_link_to_earlier_attempts_of_the_login_keeps_only_the_time_zone(reader: FlaskClient, app: Flask) -> None:
    keep(app, ago(minutes=10), username="anna", status=409, code="username_taken")
    current = keep(app, ago(minutes=5), username="anna")

    page = show(reader, current, "?tz=UTC&code=blank&period=30d&q=an")

    (earlier,) = links(page, "ещё 1 запрос")
    assert {"tz=UTC", "q=%3Danna", "period=dates"} <= set(urlsplit(earlier).query.split("&"))
    assert "code" not in earlier
    assert "1–1 из 1" in text_of(reader.get(earlier).text)


@pytest.mark.parametrize(("hour", "offset"), [(0, "+02:00"), (1, "+01:00")])
def test_the_link_to_earlier_attempts_tells_apart_the_hour_that_occurs_twice(hour: int, offset: str) -> None:
    received = datetime(2026, 10, 25, hour, 30, tzinfo=UTC)
    selection = parse_selection(MultiDict(), ZoneInfo("Europe/Berlin"), received)

    query = parse_qs(selection.query_string_of_search("=anna", received)[1:])

    assert query["to"] == [f"2026-10-25T02:30{offset}"]


def test_the_first_attempt_of_a_login_is_marked(reader: FlaskClient, app: Flask) -> None:
    page = show(reader, keep(app, ago(), username="first"))

    assert "Ранее с этим логином запросов не было" in text_of(page)


def test_neighbours_match_the_filter_and_links_keep_it(reader: FlaskClient, app: Flask) -> None:
    outcomes = [("created", 201), ("blank", 422), ("created", 201), ("blank", 422), ("blank", 422)]
    ids = [
        keep(app, ago(minutes=10 - index), code=code, status=status) for index, (code, status) in enumerate(outcomes)
    ]

    page = show(reader, ids[3], "?code=blank&period=30d")

    (older,), (newer,) = links(page, "Старее"), links(page, "Новее")
    (back,) = links(page, "Статистика: 30 дней")
    assert (urlsplit(older).path, urlsplit(newer).path) == (f"/results/{ids[1]}/", f"/results/{ids[4]}/")
    for link in (older, newer, back):
        assert parse_qs(urlsplit(link).query) == {"code": ["blank"], "period": ["30d"]}
    assert links(show(reader, ids[4], "?code=blank"), "Новее") == []


def test_an_attempt_outside_of_the_default_period_has_neighbours(reader: FlaskClient, app: Flask) -> None:
    first, second = keep(app, ago(days=50)), keep(app, ago(days=40))

    page = show(reader, second)

    (older,) = links(page, "Старее")
    assert urlsplit(older).path == f"/results/{first}/"
    assert links(page, "Статистика: 7 дней") == ["/results/"]


def test_times_are_shown_in_the_selected_time_zone(reader: FlaskClient, app: Flask) -> None:
    attempt = keep(app, datetime(2026, 3, 9, 21, 0, 5, tzinfo=UTC))

    pages = [text_of(show(reader, attempt, query)) for query in ("", "?tz=UTC", "")]

    times = [re.findall(r"(?:9|10) марта 2026, \d\d:00:05", page)[0] for page in pages]
    assert times == ["10 марта 2026, 00:00:05", "9 марта 2026, 21:00:05", "10 марта 2026, 00:00:05"]


def test_an_attempt_of_the_command_line_shows_the_command(reader: FlaskClient, app: Flask) -> None:
    page = show(reader, keep(app, ago(), method="CLI", client_address=""))

    assert "CLI flask users create-admin" in text_of(page)


@pytest.mark.parametrize("address", [f"/results/{ABSENT}/", "/results/x/", "/results/1/"])
def test_an_unknown_attempt_is_a_page_with_404(reader: FlaskClient, address: str) -> None:
    response = reader.get(address, headers=HTML)

    assert response.status_code == 404
    assert "Такого адреса или записи нет." in text_of(response.text)
    assert response.headers["X-Request-Id"] in response.text


@pytest.mark.parametrize("language", ["ru", "en"])
@pytest.mark.parametrize("code", [*PROBLEMS, *FIELD_CODES])
def test_every_code_has_a_public_page(client: FlaskClient, code: str, language: str) -> None:
    response = client.get(f"/problems/{code}?lang={language}")

    assert response.status_code == 200
    assert "%(" not in response.text
    assert f"&#34;code&#34;: &#34;{code}&#34;" in response.text


def test_the_page_of_a_code_says_whether_to_retry(client: FlaskClient) -> None:
    yes, no = (text_of(client.get(f"/problems/{code}").text) for code in ("database_unavailable", "required"))

    assert "Да, через столько секунд, сколько указано в заголовке Retry-After." in yes
    assert "Нет: тот же запрос получит тот же ответ." in no


@pytest.mark.parametrize("language", ["ru", "en"])
def test_all_codes_are_listed_with_a_link_to_each(client: FlaskClient, language: str) -> None:
    page = client.get(f"/problems/?lang={language}").text

    for code in (*PROBLEMS, *FIELD_CODES):
        assert links(page, code)[0] == f"/problems/{code}"


def test_a_key_generated_by_the_service_is_not_shown_as_sent_by_the_client(reader: FlaskClient) -> None:
    answer = useradd(reader, ANNA)

    assert "от клиента или выданный в ответе" in text_of(show(reader, answer.headers["X-Request-Id"]))


@pytest.mark.parametrize(("error", "status", "message"), REFUSALS)
def test_browsers_get_an_html_page_for_every_error(
    reader: FlaskClient, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, message: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(service, "build_report", refuse)

    response = reader.get("/results/?period=30d", headers=HTML)

    assert response.status_code == status
    assert message in text_of(response.text)
    assert response.headers["X-Request-Id"] in response.text
    assert reader.get("/api/v1/attempts/").status_code == 200, "the session is still valid"
    if "Retry-After" in response.headers:
        assert links(response.text, "Повторить")[0].removeprefix("/results/") == "?period=30d"


def test_an_unknown_code_has_no_page(client: FlaskClient) -> None:
    assert client.get("/problems/no_such_code").status_code == 404


def test_a_browser_at_the_api_address_gets_a_page_with_an_example_request(client: FlaskClient) -> None:
    response = client.get("/useradd", headers=HTML)

    assert response.status_code == 405
    assert "curl -i http://localhost/api/v1/useradd/" in response.text


def test_a_request_with_a_foreign_host_gets_a_page(client: FlaskClient) -> None:
    response = client.get("/results/", headers=HTML | {"Host": "evil.example"})

    assert response.status_code == 400
    assert "Сервис не обслуживает имя «evil.example»." in text_of(response.text)


@pytest.mark.parametrize(
    ("spellings", "last"),
    [
        (("orlov.petr", "oRlOv.PeTr", "ｏｒｌｏｖ.petr"), "ORLOV.PETR"),
        (("Ёлкин.ПЁТР", "ёЛКИН.пётр", "е\u0308лкин.пётр"), "ёлкин.пётр"),
        (("STRASSE", "straße", "STRAẞE"), "Strasse"),
        (("İlyas", "ILYAS", "i\u0307lyas"), "ilyas"),
    ],
)
def test_earlier_attempts_of_a_login_are_found_in_every_spelling(
    reader: FlaskClient, app: Flask, spellings: tuple[str, ...], last: str
) -> None:
    kept = [keep(app, ago(minutes=5 - n), username=one, status=422, code="blank") for n, one in enumerate(spellings)]
    keep(app, ago(minutes=1), username="somebody", status=422, code="blank")
    newest = keep(app, ago(), username=last, status=422, code="blank")

    page = show(reader, newest)

    (earlier,) = links(page, "ещё 3 запроса")
    listed = reader.get(earlier).text
    assert all(f"/results/{attempt_id}/" in listed for attempt_id in kept)
    assert f"/results/{kept[-1]}/" in page, "the last one before is linked"
