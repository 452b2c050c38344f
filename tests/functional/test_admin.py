"""The administrators' pages: who sees them, what they show, and that nothing happens without being asked."""

import hashlib
import logging
import re
from collections.abc import Iterator
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import TextClause, event, text
from werkzeug.test import TestResponse

from project.admin.tables import Table
from project.database.breaker import Breaker
from project.extensions import db
from tests.builders import ANNA, HTML, IVAN, KEY, csrf_token, log_in, useradd
from tests.conftest import Rows
from tests.functional.attempts import ago, keep

NOBODY = UUID("0190b0e5-0000-7000-8000-000000000000")
PAGES = ("/admin/", "/admin/users/", "/admin/attempts/", "/admin/api-keys/", "/admin/api-keys/new/")
DEEDS = ("block", "unblock", "grant", "withdraw", "reset")
FROM_FLASK_ADMIN = ("new/", "edit/", "delete/", "action/", "export/csv/", "ajax/lookup/", "ajax/update/", "details/")
"""What Flask-Admin brings for every table and we do not want."""


@pytest.fixture
def client(client: FlaskClient, app: Flask) -> FlaskClient:
    """A browser on empty tables whose requests share nothing with those of a second browser."""
    return app.test_client()


@pytest.fixture
def anna(client: FlaskClient) -> UUID:
    """A user beside the reader."""
    answer = useradd(client, ANNA).json
    assert answer is not None
    return UUID(answer["user"]["id"])


@pytest.fixture
def anna_browser(app: Flask, client: FlaskClient) -> FlaskClient:
    """Anna's own browser, logged in; she exists because of it."""
    answer = useradd(client, ANNA, headers={"Idempotency-Key": KEY}).json
    assert answer is not None
    browser = app.test_client()
    assert log_in(browser, "a.sokolova", answer["password"]).status_code == 302
    return browser


@pytest.fixture
def asked(app: Flask) -> Iterator[list[str]]:
    """Every statement that reaches PostgreSQL from now on, in small letters and on one line."""
    statements: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(" ".join(statement.lower().split()))

    with app.app_context():
        engines = list(db.engines.values())
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield statements
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


def id_of(rows: Rows, username: str) -> UUID:
    """Return the number of a user."""
    found: UUID = rows.query("select id from users where username = :username", username=username)[0]["id"]
    return found


def too_slow(_: str) -> TextClause:
    """Return a condition on which PostgreSQL spends longer than a statement may take."""
    return text("pg_sleep(9) is null")


def do(browser: FlaskClient, address: str, **form: str) -> TestResponse:
    """Answer the question at this address with yes."""
    page = browser.get(address)
    assert page.status_code == 200, page.text
    return browser.post(address, data={"csrf_token": csrf_token(page.text), **form}, headers=HTML)


def shown_secret(page: TestResponse) -> str:
    """Return the password or key that a page shows."""
    found = re.search(r'<code id="secret">([^<]+)</code>', page.text)
    assert found, page.text
    return found[1]


def reset(browser: FlaskClient, user: UUID) -> str:
    """Give a user a new password; return it."""
    return shown_secret(do(browser, f"/admin/users/{user}/reset/"))


def listed(page: TestResponse) -> list[str]:
    """Return the first cell of each row, as desks show it."""
    heads = re.findall(r'<th scope="row".*?(?:</th>|<span class="hi)', page.text, re.DOTALL)
    return [re.sub(r"<[^>]*>?", "", head).strip() for head in heads]


# --- Who sees them ---


@pytest.mark.parametrize("address", PAGES)
def test_a_stranger_is_sent_to_the_login_and_comes_back(client: FlaskClient, address: str) -> None:
    response = client.get(address)

    assert (response.status_code, response.location) == (302, f"/login/?next={address}")


def test_every_page_refuses_a_user_who_is_no_administrator(app: Flask, reader: FlaskClient, rows: Rows) -> None:
    before = rows.of("users")
    values = {"user_id": NOBODY, "key_id": NOBODY, "action": "block"}
    token = csrf_token(reader.get("/results/").text)

    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/admin"):
            built = rule.build({name: values[name] for name in rule.arguments})
            assert built
            for method in sorted((rule.methods or set()) & {"GET", "HEAD", "POST"}):
                response = reader.open(built[1], method=method, data={"csrf_token": token}, headers=HTML)
                assert (response.status_code, response.mimetype) == (403, "text/html"), (rule, method)

    assert rows.of("users") == before


def test_an_administrator_who_is_one_no_more_is_refused_at_once(administrator: FlaskClient, rows: Rows) -> None:
    assert administrator.get("/admin/").status_code == 200

    rows.query("update users set is_admin = false")

    assert administrator.get("/admin/").status_code == 403


def test_only_administrators_are_shown_the_way(reader: FlaskClient, rows: Rows) -> None:
    for_users = reader.get("/results/").text
    rows.query("update users set is_admin = true")

    for_administrators = reader.get("/results/").text

    assert 'href="/admin/"' not in for_users
    assert 'href="/admin/"' in for_administrators


# --- What of Flask-Admin is not there ---


@pytest.mark.parametrize("table", ["users", "attempts", "api-keys"])
@pytest.mark.parametrize("path", FROM_FLASK_ADMIN)
def test_nothing_of_flask_admin_creates_edits_deletes_or_exports(
    administrator: FlaskClient, rows: Rows, table: str, path: str
) -> None:
    if (table, path) == ("api-keys", "new/"):
        return  # ours
    user = id_of(rows, "petrov.ivan")
    token = csrf_token(administrator.get("/results/").text)

    for method in ("GET", "POST"):
        response = administrator.open(
            f"/admin/{table}/{path}?id={user}",
            method=method,
            data={"csrf_token": token, "id": user, "action": "delete"},
        )
        assert response.status_code in {404, 405}
    assert len(rows.of("users")) == len(rows.attempts()) == 1


def test_static_files_of_flask_admin_are_not_served(administrator: FlaskClient) -> None:
    for path in ("/admin/static/vendor/jquery.min.js", "/static/admin/vendor/jquery.min.js"):
        assert administrator.get(path).status_code == 404


@pytest.mark.parametrize("address", PAGES)
def test_pages_hold_nothing_that_the_policy_forbids(administrator: FlaskClient, address: str) -> None:
    page = administrator.get(address).text

    assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=|javascript:", page)


# --- Finding users ---


@pytest.mark.parametrize("text", ["a.sokolova", "A.SOKOLOVA", "8 (912) 555-01-41", "ANNA@example.org", "анна", "окол"])
def test_a_user_is_found_by_login_phone_email_or_a_part_of_the_name(
    administrator: FlaskClient, anna: UUID, text: str
) -> None:
    page = administrator.get("/admin/users/", query_string={"search": text})

    assert listed(page) == ["a.sokolova"]


@pytest.mark.parametrize("text", ["%", "_", "nobody", "\0", "' or 1=1 --", "x" * 5000, "\u202e", "\\"])
def test_no_search_whatever_breaks_the_page_or_finds_everybody(
    administrator: FlaskClient, anna: UUID, text: str
) -> None:
    page = administrator.get("/admin/users/", query_string={"search": text})

    assert (page.status_code, listed(page)) == (200, [])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["a.sokolova", "petrov.ivan"]),
        ("?flt1_is_admin=1", ["petrov.ivan"]),
        ("?flt1_is_admin=0", ["a.sokolova"]),
        ("?flt0_is_active=0", []),
        ("?flt0_is_active=1&flt1_is_admin=0", ["a.sokolova"]),
        ("?flt0_is_active=&flt1_is_admin=&search=", ["a.sokolova", "petrov.ivan"]),
        ("?flt0_is_active=maybe&sort=3&desc=1&page=7&page_size=1000000", ["a.sokolova", "petrov.ivan"]),
    ],
)
def test_filters_narrow_and_nonsense_does_not(
    administrator: FlaskClient, anna: UUID, query: str, found: list[str]
) -> None:
    page = administrator.get(f"/admin/users/{query}")

    assert (page.status_code, listed(page)) == (200, found)


def test_a_page_goes_on_where_the_one_before_ended_and_keeps_the_filter(app: Flask, administrator: FlaskClient) -> None:
    for number in [*range(0, 60, 2), *range(1, 60, 2)]:  # the table is in another order than the page
        keep(app, ago(minutes=number), username=f"somebody.{number}", client_address="10.1.1.1")
    seen: list[str] = []
    address = "/admin/attempts/?flt1_client_address=10.1.1.1"

    for _ in range(3):
        page = administrator.get(address)
        seen += re.findall(r"somebody\.\d+", page.text)
        older = re.search(r'href="([^"]+)" rel="next"', page.text)
        address = "/admin/attempts/" + older[1].replace("&amp;", "&") if older else ""

    assert seen == [f"somebody.{number}" for number in range(60)]
    assert address == ""


def test_a_page_never_counts_the_rows(administrator: FlaskClient, asked: list[str]) -> None:
    for address in ("/admin/users/?search=x", "/admin/attempts/?flt2_status=201"):
        administrator.get(address)

    pages = [question for question in asked if re.search("from (users|attempts) ", question) and "limit" in question]
    assert len(pages) == 2
    assert all("order by" in question for question in pages)
    assert not any("count(" in question for question in asked)


def test_pages_ask_in_transactions_that_cannot_write(app: Flask, administrator: FlaskClient) -> None:
    [admin] = app.extensions["admin"]
    tables = [view for view in admin._views if isinstance(view, Table)]

    with app.app_context():
        answers = [view.read(lambda session: session.scalar(text("show transaction_read_only"))) for view in tables]

    assert answers == ["on", "on", "on"]


def test_what_takes_too_long_is_said_and_whole_logins_are_found_all_the_same(
    administrator: FlaskClient, anna: UUID, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("project.admin.users.reads_like", too_slow)

    page = administrator.get("/admin/users/?search=a.sokolova")

    assert (page.status_code, listed(page)) == (200, ["a.sokolova"])
    assert 'role="alert"' in page.text


def test_attempts_lead_to_their_own_page_and_show_masked_contacts_only(administrator: FlaskClient, anna: UUID) -> None:
    page = administrator.get("/admin/attempts/").text

    assert f'href="/results/{anna}/"' in page
    assert "5550141" not in page


@pytest.mark.parametrize("value", ["abc", "99999999999999999999", "", "-1", "\0"])
def test_a_status_that_is_none_breaks_nothing(administrator: FlaskClient, value: str) -> None:
    page = administrator.get("/admin/attempts/", query_string={"flt2_status": value})

    assert page.status_code == 200


def test_users_are_shown_to_administrators_in_full_in_their_zone_and_language(
    administrator: FlaskClient, anna: UUID
) -> None:
    page = administrator.get(f"/admin/users/{anna}/?lang=ru&tz=UTC").text

    assert "+79125550141" in page
    assert "anna@example.org" in page
    assert "31 декабря 1990" in page
    assert "Заблокировать" in page
    assert "password_hash" not in page
    assert "hmac-sha256" not in page


@pytest.mark.parametrize("address", ["/admin/users/{}/", "/admin/users/{}/block/", "/admin/api-keys/{}/revoke/"])
def test_who_is_not_there_is_not_found(administrator: FlaskClient, address: str) -> None:
    response = administrator.get(address.format(NOBODY), headers=HTML)

    assert (response.status_code, response.mimetype) == (404, "text/html")


def test_without_postgres_the_page_says_so(administrator: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Breaker, "is_open", True)

    response = administrator.get("/admin/users/", headers=HTML)

    assert (response.status_code, response.mimetype) == (503, "text/html")


# --- What is done to users ---


@pytest.mark.parametrize("deed", DEEDS)
def test_a_question_is_asked_first_and_asking_changes_nothing(
    administrator: FlaskClient, anna: UUID, rows: Rows, deed: str
) -> None:
    before = rows.of("users")

    page = administrator.get(f"/admin/users/{anna}/{deed}/")

    assert page.status_code == 200
    assert "a.sokolova" in page.text
    assert rows.of("users") == before


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("form", [{}, {"csrf_token": "forged"}])
def test_nothing_happens_without_the_token_of_the_form(
    administrator: FlaskClient, anna: UUID, rows: Rows, deed: str, form: dict[str, str]
) -> None:
    before = rows.of("users")

    response = administrator.post(f"/admin/users/{anna}/{deed}/", data=form)

    assert response.status_code == 400
    assert rows.of("users") == before


def test_who_is_blocked_is_out_at_once_stays_out_and_comes_back_when_unblocked(
    anna_browser: FlaskClient, administrator: FlaskClient, app: Flask, rows: Rows
) -> None:
    anna = id_of(rows, "a.sokolova")
    password = reset(administrator, anna)
    browser = app.test_client()
    log_in(browser, "a.sokolova", password)
    was_in = browser.get("/results/").status_code == 200

    response = do(administrator, f"/admin/users/{anna}/block/")

    assert was_in
    assert response.location == f"/admin/users/{anna}/"
    assert "Пользователь a.sokolova заблокирован." in administrator.get(response.location).text
    assert browser.get("/results/").status_code == 302
    assert log_in(app.test_client(), "a.sokolova", password).status_code == 401

    do(administrator, f"/admin/users/{anna}/unblock/")

    assert browser.get("/results/").status_code == 302, "a session from before the block must stay void"
    assert log_in(app.test_client(), "a.sokolova", password).status_code == 302


def test_a_new_password_is_shown_once_ends_sessions_and_the_old_one_opens_nothing(
    anna_browser: FlaskClient, administrator: FlaskClient, app: Flask, rows: Rows
) -> None:
    anna = id_of(rows, "a.sokolova")
    old = useradd(app.test_client(), ANNA, headers={"Idempotency-Key": KEY}).json
    assert old is not None

    page = do(administrator, f"/admin/users/{anna}/reset/")
    password = shown_secret(page)

    assert page.headers["Cache-Control"] == "no-store"
    assert anna_browser.get("/results/").status_code == 302
    assert log_in(app.test_client(), "a.sokolova", old["password"]).status_code == 401
    assert log_in(app.test_client(), "a.sokolova", password).status_code == 302
    assert password not in administrator.get(f"/admin/users/{anna}/").text
    assert password not in str(rows.of("users"))


def test_a_repeat_of_the_first_request_answers_with_no_password_after_a_reset(
    anna_browser: FlaskClient, administrator: FlaskClient, rows: Rows
) -> None:
    reset(administrator, id_of(rows, "a.sokolova"))

    answer = useradd(administrator, ANNA, headers={"Idempotency-Key": KEY})

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (409, "credentials_changed")
    assert "password" not in answer.json


def test_an_administrator_is_made_and_unmade_and_has_to_log_in_again(
    anna_browser: FlaskClient, administrator: FlaskClient, app: Flask, rows: Rows
) -> None:
    anna = id_of(rows, "a.sokolova")

    do(administrator, f"/admin/users/{anna}/grant/")

    assert anna_browser.get("/results/").status_code == 302
    browser = app.test_client()
    log_in(browser, "a.sokolova", reset(administrator, anna))
    assert browser.get("/admin/").status_code == 200

    do(administrator, f"/admin/users/{anna}/withdraw/")

    assert browser.get("/admin/").status_code == 302
    assert [row["is_admin"] for row in rows.of("users", order="username")] == [False, True]


@pytest.mark.parametrize("deed", ["block", "withdraw", "reset"])
def test_nobody_does_it_to_themselves(administrator: FlaskClient, anna: UUID, rows: Rows, deed: str) -> None:
    rows.query("update users set is_admin = true")
    before = rows.of("users")

    response = do(administrator, f"/admin/users/{id_of(rows, 'petrov.ivan')}/{deed}/")

    assert (response.status_code, response.mimetype) == (403, "text/html")
    assert rows.of("users") == before


def test_what_is_done_to_users_is_logged_without_personal_data(
    administrator: FlaskClient, anna: UUID, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    boss = id_of(rows, "petrov.ivan")
    caplog.set_level(logging.INFO)

    for deed in DEEDS:
        do(administrator, f"/admin/users/{anna}/{deed}/")

    said = [record for record in caplog.records if record.name == "project.services.users"]
    events = [
        "user blocked",
        "user unblocked",
        "administrator rights granted",
        "administrator rights revoked",
        "password reset",
    ]
    assert [record.getMessage() for record in said] == events
    for record in said:
        assert (vars(record)["user_id"], vars(record)["by"]) == (str(anna), str(boss))
        assert not re.search("sokolova|Соколова|anna|5550141", str(vars(record)), re.IGNORECASE)


@pytest.mark.parametrize("deed", DEEDS)
def test_looking_at_the_head_of_a_question_does_nothing(
    administrator: FlaskClient, anna: UUID, rows: Rows, deed: str
) -> None:
    before = rows.of("users")

    response = administrator.head(f"/admin/users/{anna}/{deed}/")

    assert response.status_code == 200
    assert rows.of("users") == before


# --- The password, once more ---


@pytest.fixture
def late(app: Flask, client: FlaskClient, rows: Rows) -> tuple[FlaskClient, str]:
    """The browser of an administrator who entered the password eleven minutes ago, and the password."""
    password = str((useradd(client, IVAN).json or {})["password"])
    rows.query("update users set is_admin = true")
    browser = app.test_client()
    log_in(browser, "petrov.ivan", password)
    forget_password(browser)
    return browser, password


GRAVE = [*(f"users/{{user}}/{deed}/" for deed in DEEDS), "api-keys/new/", "api-keys/{key}/revoke/"]


def forget_password(browser: FlaskClient) -> None:
    """Let eleven minutes go by since the password was entered."""
    with browser.session_transaction() as session:
        session["proved"] -= 11 * 60


def changed(rows: Rows) -> tuple[object, object]:
    """Return what administrators can change."""
    return rows.of("users"), rows.of("api_keys")


@pytest.mark.parametrize("place", GRAVE)
def test_what_is_grave_takes_the_password_again_after_ten_minutes(
    late: tuple[FlaskClient, str], anna: UUID, rows: Rows, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    browser, password = late
    do(browser, "/admin/api-keys/new/", name="shop front", password=password)
    forget_password(browser)
    address = "/admin/" + place.format(user=anna, key=rows.of("api_keys")[0]["id"])
    if place.endswith(("unblock/", "withdraw/")):
        rows.query("update users set is_active = false, is_admin = true where username = 'a.sokolova'")
    before = changed(rows)

    without = do(browser, address, name="till")
    wrong = do(browser, f"{address}?lang=en", name="till", password="wrong")
    after_these = changed(rows)
    right = do(browser, address, name="till", password=password)

    assert (without.status_code, wrong.status_code) == (422, 422)
    assert 'aria-describedby="password-error"' in without.text
    assert "This is not your password." in wrong.text
    assert after_these == before
    assert right.status_code in {200, 302}
    assert changed(rows) != before
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["re-authentication failed"] * 2
    assert password not in caplog.text


def test_the_password_will_do_for_a_while(late: tuple[FlaskClient, str], anna: UUID) -> None:
    browser, password = late
    asked = browser.get(f"/admin/users/{anna}/block/").text
    do(browser, f"/admin/users/{anna}/block/", password=password)

    next_question = browser.get(f"/admin/users/{anna}/unblock/").text

    assert 'name="password"' in asked
    assert 'name="password"' not in next_question
    assert do(browser, f"/admin/users/{anna}/unblock/").status_code == 302


def test_a_session_from_before_this_rule_is_asked(late: tuple[FlaskClient, str], anna: UUID) -> None:
    browser, _ = late
    with browser.session_transaction() as session:
        del session["proved"]

    assert do(browser, f"/admin/users/{anna}/block/").status_code == 422


# --- API keys ---


def test_a_key_is_shown_once_and_only_its_hash_is_kept(administrator: FlaskClient, rows: Rows) -> None:
    page = do(administrator, "/admin/api-keys/new/", name="  shop front ")
    key = shown_secret(page)

    [kept] = rows.of("api_keys")
    assert re.fullmatch(r"useradd_[a-z2-9]{26}", key)
    assert (kept["name"], kept["created_by"]) == ("shop front", id_of(rows, "petrov.ivan"))
    assert bytes(kept["key_hash"]) == hashlib.sha256(key.encode()).digest()
    assert key not in str(kept)
    assert page.headers["Cache-Control"] == "no-store"
    overview = administrator.get("/admin/api-keys/").text
    assert "shop front" in overview
    assert key not in overview


@pytest.mark.parametrize("name", ["", " ", "a\0b", "x" * 101, "\u202e"])
def test_a_key_without_a_proper_name_is_not_made(administrator: FlaskClient, rows: Rows, name: str) -> None:
    response = do(administrator, "/admin/api-keys/new/", name=name)

    assert response.status_code == 422
    assert 'aria-describedby="name-error"' in response.text
    assert rows.of("api_keys") == []


def test_a_key_is_revoked_after_a_question(administrator: FlaskClient, rows: Rows) -> None:
    do(administrator, "/admin/api-keys/new/", name="shop front")
    address = f"/admin/api-keys/{rows.of('api_keys')[0]['id']}/revoke/"
    administrator.get(address)
    after_the_question = rows.of("api_keys")[0]["revoked_at"]

    response = do(administrator, address)
    do(administrator, address)

    assert after_the_question is None
    assert response.location == "/admin/api-keys/"
    assert rows.of("api_keys")[0]["revoked_at"] is not None
    assert "Revoked" in administrator.get("/admin/api-keys/?lang=en").text


# --- The state of the service ---


def test_the_first_page_tells_how_the_service_is(administrator: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    in_order = administrator.get("/admin/?lang=ru").text
    spool = {"attempts": 22, "bytes": 1, "oldest_s": 3, "quarantined": 0, "lost": 5}
    away = {"status": "degraded", "database": "away", "statistics": "up", "spool": spool}
    monkeypatch.setattr("project.admin.state.get_status", lambda *_: away)

    degraded = administrator.get("/admin/?lang=ru").text

    assert "Всё в порядке." in in_order
    assert "0 запросов" in in_order
    for words in ("не отвечает", "запросы ждут на диске", "22 запроса", "3 секунды", "1 байт", "5 запросов"):
        assert words in degraded
