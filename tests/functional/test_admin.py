"""Administration pages: access, contents, and confirmation of every change."""

import hashlib
import logging
import re
from collections.abc import Iterator
from types import ModuleType
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, TextClause, event, text
from werkzeug.test import TestResponse

from project.admin.confirmation import SECRET_SHOWN_S
from project.database.breaker import Breaker
from project.domain.errors import QueryTimeoutError
from project.extensions import db
from project.queries import api_keys, users
from project.runtime import get_runtime
from tests.builders import ANNA, HTML, IVAN, KEY, csrf_token, log_in, useradd
from tests.conftest import Rows

NOBODY = UUID("0190b0e5-0000-7000-8000-000000000000")
PAGES = ("/admin/", "/admin/users/", "/admin/api-keys/", "/admin/api-keys/new/")
ACTIONS = ("block", "unblock", "audit", "grant", "withdraw", "reset")
GENERIC = ("new/", "edit/", "delete/", "action/", "export/csv/", "ajax/lookup/", "ajax/update/", "details/")
"""Addresses of generic administration frameworks, one of which this service once had."""


@pytest.fixture
def client(client: FlaskClient, app: Flask) -> FlaskClient:
    """A browser on empty tables that shares no cookies with a second browser."""
    return app.test_client()


@pytest.fixture
def anna(client: FlaskClient) -> UUID:
    """The id of another user."""
    answer = useradd(client, ANNA).json
    assert answer is not None
    return UUID(answer["user"]["id"])


@pytest.fixture
def anna_browser(app: Flask, client: FlaskClient) -> FlaskClient:
    """The browser of another user, Anna, who is logged in."""
    answer = useradd(client, ANNA, headers={"Idempotency-Key": KEY}).json
    assert answer is not None
    browser = app.test_client()
    assert log_in(browser, "a.sokolova", answer["password"]).status_code == 302
    return browser


@pytest.fixture
def statements(app: Flask) -> Iterator[list[str]]:
    """All statements sent to PostgreSQL during the test, in lower case and on one line."""
    statements: list[str] = []

    def record(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(" ".join(statement.lower().split()))

    with app.app_context():
        engines = list(db.engines.values())
    for engine in engines:
        event.listen(engine, "before_cursor_execute", record)
    yield statements
    for engine in engines:
        event.remove(engine, "before_cursor_execute", record)


def id_of(rows: Rows, username: str) -> UUID:
    """Return the id of a user."""
    found: UUID = rows.query("select id from users where username = :username", username=username)[0]["id"]
    return found


def too_slow(_: str) -> TextClause:
    """Return a condition that exceeds the statement timeout."""
    return text("pg_sleep(9) is null")


def confirm(browser: FlaskClient, address: str, **form: str) -> TestResponse:
    """Open the confirmation page at this address and send its form."""
    page = browser.get(address)
    assert page.status_code == 200, page.text
    return browser.post(address, data={"csrf_token": csrf_token(page.text), **form}, headers=HTML)


def shown_secret(page: TestResponse) -> str:
    """Return the password or key that a page shows."""
    found = re.search(r'<code id="secret">([^<]+)</code>', page.text)
    assert found, page.text
    return found[1]


def reset(browser: FlaskClient, user: UUID) -> str:
    """Reset the password of a user; return the new password."""
    return shown_secret(issue(browser, f"/admin/users/{user}/reset/"))


def issue(browser: FlaskClient, address: str, **form: str) -> TestResponse:
    """Confirm an action that issues a secret; return the page that shows the secret."""
    response = confirm(browser, address, **form)
    assert (response.status_code, response.location) == (302, address)
    return browser.get(address, headers=HTML)


def listed(page: TestResponse) -> list[str]:
    """Return the first cell of each row, as a wide screen shows it."""
    headers = re.findall(r'<th scope="row".*?(?:</th>|<span class="hi)', page.text, re.DOTALL)
    return [re.sub(r"<[^>]*>?", "", head).strip() for head in headers]


# --- Access ---


@pytest.mark.parametrize("address", PAGES)
def test_a_visitor_is_redirected_to_the_login_and_back(client: FlaskClient, address: str) -> None:
    response = client.get(address)

    assert (response.status_code, response.location) == (302, f"/login/?next={address}")


def test_every_page_refuses_a_user_who_is_no_administrator(app: Flask, reader: FlaskClient, rows: Rows) -> None:
    before = rows.of("users")
    values = {"user_id": NOBODY, "key_id": NOBODY, "import_id": NOBODY, "action": "block", "extension": "csv"}
    token = csrf_token(reader.get("/results/").text)

    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/admin"):
            built = rule.build({name: values[name] for name in rule.arguments})
            assert built
            for method in sorted((rule.methods or set()) & {"GET", "HEAD", "POST"}):
                response = reader.open(built[1], method=method, data={"csrf_token": token}, headers=HTML)
                assert (response.status_code, response.mimetype) == (403, "text/html"), (rule, method)

    assert rows.of("users") == before


def test_a_former_administrator_is_refused_at_once(administrator: FlaskClient, rows: Rows) -> None:
    assert administrator.get("/admin/").status_code == 200

    rows.query("update users set is_admin = false")

    assert administrator.get("/admin/").status_code == 403


def test_only_administrators_see_the_link(reader: FlaskClient, rows: Rows) -> None:
    for_users = reader.get("/results/").text
    rows.query("update users set is_admin = true")

    for_administrators = reader.get("/results/").text

    assert 'href="/admin/' not in for_users
    assert 'href="/admin/users/"' in for_administrators


# --- Addresses that do not exist ---


@pytest.mark.parametrize("table", ["users", "attempts", "api-keys"])
@pytest.mark.parametrize("path", GENERIC)
def test_no_generic_address_creates_edits_deletes_or_exports(
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


def test_no_static_files_of_an_administration_framework_are_served(administrator: FlaskClient) -> None:
    for path in ("/admin/static/vendor/jquery.min.js", "/static/admin/vendor/jquery.min.js"):
        assert administrator.get(path).status_code == 404


@pytest.mark.parametrize("address", PAGES)
def test_pages_contain_nothing_that_the_content_security_policy_forbids(
    administrator: FlaskClient, address: str
) -> None:
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
def test_no_search_text_breaks_the_page_or_matches_everybody(administrator: FlaskClient, anna: UUID, text: str) -> None:
    page = administrator.get("/admin/users/", query_string={"search": text})

    assert (page.status_code, listed(page)) == (200, [])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["a.sokolova", "petrov.ivan"]),
        ("?role=administrator", ["petrov.ivan"]),
        ("?role=user", ["a.sokolova"]),
        ("?role=auditor", []),
        ("?active=no", []),
        ("?active=yes&role=user", ["a.sokolova"]),
        ("?active=&role=&search=+", ["a.sokolova", "petrov.ivan"]),
        (
            "?active=maybe&role=1&sort=3&desc=1&page=7&page_size=1000000&before=x",
            ["a.sokolova", "petrov.ivan"],
        ),
    ],
)
def test_filters_narrow_the_list_and_invalid_ones_are_ignored(
    administrator: FlaskClient, anna: UUID, query: str, found: list[str]
) -> None:
    page = administrator.get(f"/admin/users/{query}")

    assert (page.status_code, listed(page)) == (200, found)


def test_a_page_starts_where_the_previous_one_ended_and_keeps_the_filter(
    administrator: FlaskClient, anna: UUID, rows: Rows
) -> None:
    for number in [*range(0, 60, 2), *range(1, 60, 2)]:  # the table is in another order than the page
        rows.query(
            "insert into users (id, attempt_status, name, username, phone, password_hash, created_at)"
            " values (:id, null, 'x', :username, '+1', 'x', now())",
            id=UUID(int=60 - number),
            username=f"somebody.{number}",
        )
    seen: list[str] = []
    address = "/admin/users/?search=somebody&active=yes"

    for _ in range(3):
        page = administrator.get(address)
        seen += listed(page)
        older = re.search(r'href="([^"]+)" rel="next"', page.text)
        address = "/admin/users/" + older[1].replace("&amp;", "&") if older else ""

    assert seen == [f"somebody.{number}" for number in range(60)]
    assert address == ""
    assert 'href="/admin/users/?active=yes&amp;search=somebody" rel="prev"' in page.text


def test_keys_are_paged_newest_first(administrator: FlaskClient, rows: Rows) -> None:
    for number in range(30):
        rows.query(
            "insert into api_keys (id, name, key_hash) values (:id, :name, convert_to(:name, 'UTF8'))",
            id=UUID(int=30 - number),
            name=f"key {number}",
        )

    first = administrator.get("/admin/api-keys/")
    older = re.search(r'href="([^"]+)" rel="next"', first.text)
    assert older
    second = administrator.get("/admin/api-keys/" + older[1])

    assert listed(first) + listed(second) == [f"key {number}" for number in range(30)]
    assert 'rel="next"' not in second.text


def test_lists_never_count_the_rows(administrator: FlaskClient, statements: list[str]) -> None:
    for address in ("/admin/users/?search=x", "/admin/api-keys/"):
        administrator.get(address)

    lists = [sql for sql in statements if re.search("from (users|api_keys) ", sql) and "limit" in sql]
    assert len(lists) == 2
    assert all("order by" in sql for sql in lists)
    assert not any("count(" in sql for sql in statements)


@pytest.mark.parametrize(
    ("module", "function", "address"),
    [
        (users, "find_users", "/admin/users/"),
        (users, "find_user", "/admin/users/{}/"),
        (users, "find_user", "/admin/users/{}/block/"),
        (api_keys, "find_keys", "/admin/api-keys/"),
        (api_keys, "find_key_by_id", "/admin/api-keys/{}/revoke/"),
    ],
)
def test_pages_are_read_in_transactions_that_cannot_write(
    administrator: FlaskClient, monkeypatch: pytest.MonkeyPatch, module: ModuleType, function: str, address: str
) -> None:
    original, settings = getattr(module, function), []

    def find(connection: Connection, *args: object, **kwargs: object) -> object:
        settings.append(connection.scalar(text("show transaction_read_only")))
        return original(connection, *args, **kwargs)

    monkeypatch.setattr(module, function, find)

    administrator.get(address.format(NOBODY))

    assert settings == ["on"]


@pytest.mark.slow
def test_a_search_that_times_out_is_reported_and_still_finds_complete_logins(
    administrator: FlaskClient, anna: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("project.queries.users.text_condition", too_slow)

    page = administrator.get("/admin/users/?search=a.sokolova")

    assert (page.status_code, listed(page)) == (200, ["a.sokolova"])
    assert 'role="alert"' in page.text


def test_a_list_that_times_out_is_reported(
    administrator: FlaskClient, anna: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_out(*_: object) -> None:
        raise QueryTimeoutError

    monkeypatch.setattr(users, "find_users", time_out)

    page = administrator.get("/admin/users/?active=no")

    assert (page.status_code, listed(page)) == (200, [])
    assert 'role="alert"' in page.text


def test_administrators_see_users_in_full_in_their_zone_and_language(administrator: FlaskClient, anna: UUID) -> None:
    page = administrator.get(f"/admin/users/{anna}/?lang=ru&tz=UTC").text

    assert "+7 912 555-01-41" in page
    assert "Anna@example.org" in page
    assert "31 декабря 1990" in page
    assert "Заблокировать" in page
    assert "password_hash" not in page
    assert "hmac-sha256" not in page


@pytest.mark.parametrize("address", ["/admin/users/{}/", "/admin/users/{}/block/", "/admin/api-keys/{}/revoke/"])
def test_an_unknown_id_is_not_found(administrator: FlaskClient, address: str) -> None:
    response = administrator.get(address.format(NOBODY), headers=HTML)

    assert (response.status_code, response.mimetype) == (404, "text/html")


def test_without_postgres_the_page_says_so(administrator: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Breaker, "is_open", True)

    response = administrator.get("/admin/users/", headers=HTML)

    assert (response.status_code, response.mimetype) == (503, "text/html")


# --- Changing users ---


@pytest.mark.parametrize("action", ACTIONS)
def test_a_change_is_confirmed_first_and_the_confirmation_page_changes_nothing(
    administrator: FlaskClient, anna: UUID, rows: Rows, action: str
) -> None:
    before = rows.of("users")

    page = administrator.get(f"/admin/users/{anna}/{action}/")

    assert page.status_code == 200
    assert "a.sokolova" in page.text
    assert rows.of("users") == before


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("form", [{}, {"csrf_token": "forged"}])
def test_nothing_changes_without_a_valid_csrf_token(
    administrator: FlaskClient, anna: UUID, rows: Rows, action: str, form: dict[str, str]
) -> None:
    before = rows.of("users")

    response = administrator.post(f"/admin/users/{anna}/{action}/", data=form)

    assert response.status_code == 400
    assert rows.of("users") == before


def test_a_blocked_user_is_logged_out_at_once_and_can_log_in_after_unblocking(
    anna_browser: FlaskClient, administrator: FlaskClient, app: Flask, rows: Rows
) -> None:
    anna = id_of(rows, "a.sokolova")
    password = reset(administrator, anna)
    browser = app.test_client()
    log_in(browser, "a.sokolova", password)
    was_in = browser.get("/results/").status_code == 200

    response = confirm(administrator, f"/admin/users/{anna}/block/")

    assert was_in
    assert response.location == f"/admin/users/{anna}/"
    assert "Пользователь a.sokolova заблокирован." in administrator.get(response.location).text
    assert browser.get("/results/").status_code == 302
    assert log_in(app.test_client(), "a.sokolova", password).status_code == 401

    confirm(administrator, f"/admin/users/{anna}/unblock/")

    assert browser.get("/results/").status_code == 302, "a session from before the block must stay invalid"
    assert log_in(app.test_client(), "a.sokolova", password).status_code == 302


def test_a_reset_shows_the_new_password_once_ends_sessions_and_revokes_the_old_one(
    anna_browser: FlaskClient, administrator: FlaskClient, app: Flask, rows: Rows
) -> None:
    anna = id_of(rows, "a.sokolova")
    old = useradd(app.test_client(), ANNA, headers={"Idempotency-Key": KEY}).json
    assert old is not None

    page = issue(administrator, f"/admin/users/{anna}/reset/")
    password = shown_secret(page)

    assert page.headers["Cache-Control"] == "no-store"
    assert anna_browser.get("/results/").status_code == 302
    assert log_in(app.test_client(), "a.sokolova", old["password"]).status_code == 401
    assert log_in(app.test_client(), "a.sokolova", password).status_code == 302
    assert password not in administrator.get(f"/admin/users/{anna}/").text
    assert password not in str(rows.of("users"))


def test_a_replay_returns_no_password_after_a_reset(
    anna_browser: FlaskClient, administrator: FlaskClient, rows: Rows
) -> None:
    reset(administrator, id_of(rows, "a.sokolova"))

    answer = useradd(administrator, ANNA, headers={"Idempotency-Key": KEY})

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (409, "credentials_changed")
    assert "password" not in answer.json


def test_granting_and_withdrawing_rights_ends_sessions(
    anna_browser: FlaskClient, administrator: FlaskClient, app: Flask, rows: Rows
) -> None:
    anna = id_of(rows, "a.sokolova")

    confirm(administrator, f"/admin/users/{anna}/grant/")

    assert anna_browser.get("/results/").status_code == 302
    browser = app.test_client()
    log_in(browser, "a.sokolova", reset(administrator, anna))
    assert browser.get("/admin/").status_code == 200

    confirm(administrator, f"/admin/users/{anna}/withdraw/")

    assert browser.get("/admin/").status_code == 302
    assert [row["is_admin"] for row in rows.of("users", order="username")] == [False, True]


def test_an_auditor_sees_requests_in_full_and_no_administration(
    anna_browser: FlaskClient, administrator: FlaskClient, app: Flask, rows: Rows
) -> None:
    anna = id_of(rows, "a.sokolova")
    confirm(administrator, f"/admin/users/{anna}/audit/")
    browser = app.test_client()
    log_in(browser, "a.sokolova", reset(administrator, anna))

    page = browser.get(f"/results/{id_of(rows, 'petrov.ivan')}/").text

    assert "Иван Петров" in page
    assert "127.0.0.1" in page
    assert 'href="/admin/users/' not in page
    assert browser.get("/admin/audit/", headers=HTML).status_code == 200
    assert [browser.get(address, headers=HTML).status_code for address in PAGES] == [403] * len(PAGES)
    listing = administrator.get(f"/admin/users/{anna}/?lang=en").text
    assert "Auditor" in listing
    assert [f"/{anna}/{action}/" in listing for action in ACTIONS] == [True, False, False, True, True, True]


@pytest.mark.parametrize("action", ["block", "audit", "withdraw", "reset"])
def test_administrators_cannot_block_withdraw_or_reset_themselves(
    administrator: FlaskClient, anna: UUID, rows: Rows, action: str
) -> None:
    rows.query("update users set is_admin = true")
    before = rows.of("users")

    response = confirm(administrator, f"/admin/users/{id_of(rows, 'petrov.ivan')}/{action}/")

    assert (response.status_code, response.mimetype) == (403, "text/html")
    assert rows.of("users") == before


def test_changes_are_logged_without_personal_data(
    administrator: FlaskClient, anna: UUID, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    boss = id_of(rows, "petrov.ivan")
    caplog.set_level(logging.INFO)

    for action in ACTIONS:
        confirm(administrator, f"/admin/users/{anna}/{action}/")

    records = [record for record in caplog.records if record.name == "project.services.users"]
    events = [
        "user blocked",
        "user unblocked",
        "role granted",
        "role granted",
        "role revoked",
        "password reset",
    ]
    assert [record.getMessage() for record in records] == events
    for record in records:
        assert (vars(record)["user_id"], vars(record)["by"]) == (str(anna), str(boss))
        assert not re.search("sokolova|Соколова|anna|5550141", str(vars(record)), re.IGNORECASE)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_head_request_changes_nothing(administrator: FlaskClient, anna: UUID, rows: Rows, action: str) -> None:
    before = rows.of("users")

    response = administrator.head(f"/admin/users/{anna}/{action}/")

    assert response.status_code == 200
    assert rows.of("users") == before


# --- Re-authentication ---


@pytest.fixture
def stale(app: Flask, client: FlaskClient, rows: Rows) -> tuple[FlaskClient, str]:
    """The browser of an administrator who entered the password eleven minutes ago.

    Also returns the password.
    """
    password = str((useradd(client, IVAN).json or {})["password"])
    rows.query("update users set is_admin = true")
    browser = app.test_client()
    log_in(browser, "petrov.ivan", password)
    expire_password(browser)
    return browser, password


SENSITIVE = [*(f"users/{{user}}/{action}/" for action in ACTIONS), "api-keys/new/", "api-keys/{key}/revoke/"]


def expire_password(browser: FlaskClient) -> None:
    """Pretend that the password was entered eleven minutes earlier."""
    with browser.session_transaction() as session:
        session["proved"] -= 11 * 60


def changeable(rows: Rows) -> tuple[object, object]:
    """Return the rows that administrators can change."""
    return rows.of("users"), rows.of("api_keys")


@pytest.mark.parametrize("path", SENSITIVE)
def test_sensitive_actions_require_the_password_again_after_ten_minutes(
    stale: tuple[FlaskClient, str], anna: UUID, rows: Rows, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    browser, password = stale
    confirm(browser, "/admin/api-keys/new/", name="shop front", password=password)
    expire_password(browser)
    address = "/admin/" + path.format(user=anna, key=rows.of("api_keys")[0]["id"])
    if path.endswith(("unblock/", "withdraw/")):
        rows.query("update users set is_active = false, is_admin = true where username = 'a.sokolova'")
    before = changeable(rows)

    without = confirm(browser, address, name="till")
    wrong = confirm(browser, f"{address}?lang=en", name="till", password="wrong")
    after_failures = changeable(rows)
    right = confirm(browser, address, name="till", password=password)

    assert (without.status_code, wrong.status_code) == (422, 422)
    assert 'aria-describedby="password-error"' in without.text
    assert "This is not your password." in wrong.text
    assert after_failures == before
    assert right.status_code in {200, 302}
    assert changeable(rows) != before
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["re-authentication failed"] * 2
    assert password not in caplog.text


def test_the_password_is_not_required_again_for_a_while(stale: tuple[FlaskClient, str], anna: UUID) -> None:
    browser, password = stale
    first = browser.get(f"/admin/users/{anna}/block/").text
    confirm(browser, f"/admin/users/{anna}/block/", password=password)

    second = browser.get(f"/admin/users/{anna}/unblock/").text

    assert 'name="password"' in first
    assert 'name="password"' not in second
    assert confirm(browser, f"/admin/users/{anna}/unblock/").status_code == 302


def test_a_session_without_the_time_of_the_password_requires_it(stale: tuple[FlaskClient, str], anna: UUID) -> None:
    browser, _ = stale
    with browser.session_transaction() as session:
        del session["proved"]

    assert confirm(browser, f"/admin/users/{anna}/block/").status_code == 422


# --- API keys ---


def test_a_key_is_shown_once_and_only_its_hash_is_stored(administrator: FlaskClient, rows: Rows) -> None:
    page = issue(administrator, "/admin/api-keys/new/", name="  shop front ")
    key = shown_secret(page)

    [row] = rows.of("api_keys")
    assert re.fullmatch(r"useradd_[a-z2-9]{26}", key)
    assert (row["name"], row["created_by"]) == ("shop front", id_of(rows, "petrov.ivan"))
    assert bytes(row["key_hash"]) == hashlib.sha256(key.encode()).digest()
    assert key not in str(row)
    assert page.headers["Cache-Control"] == "no-store"
    listing = administrator.get("/admin/api-keys/").text
    assert "shop front" in listing
    assert key not in listing


@pytest.mark.parametrize("name", ["", " ", "a\0b", "x" * 101, "\u202e"])
def test_a_key_with_an_invalid_name_is_not_created(administrator: FlaskClient, rows: Rows, name: str) -> None:
    response = confirm(administrator, "/admin/api-keys/new/", name=name)

    assert response.status_code == 422
    assert 'aria-describedby="name-error"' in response.text
    assert rows.of("api_keys") == []


def test_a_key_is_revoked_after_confirmation(administrator: FlaskClient, rows: Rows) -> None:
    confirm(administrator, "/admin/api-keys/new/", name="shop front")
    address = f"/admin/api-keys/{rows.of('api_keys')[0]['id']}/revoke/"
    administrator.get(address)
    before_confirmation = rows.of("api_keys")[0]["revoked_at"]

    response = confirm(administrator, address)
    confirm(administrator, address)

    assert before_confirmation is None
    assert response.location == "/admin/api-keys/"
    assert rows.of("api_keys")[0]["revoked_at"] is not None
    assert "Revoked" in administrator.get("/admin/api-keys/?lang=en").text


# --- Service state ---


def test_the_first_page_shows_the_state_of_the_service(
    administrator: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = administrator.get("/admin/?lang=ru").text
    spool = {"attempts": 22, "bytes": 1, "oldest_s": 3, "quarantined": 0, "lost": 5}
    unavailable = {"status": "degraded", "database": "away", "statistics": "up", "spool": spool}
    monkeypatch.setattr("project.admin.routes.get_status", lambda *_: unavailable)

    degraded = administrator.get("/admin/?lang=ru").text

    assert "Всё в порядке." in healthy
    assert "0 запросов" in healthy
    for message in ("не отвечает", "запросы хранятся на диске", "22 запроса", "3 секунды", "1 байт", "5 запросов"):
        assert message in degraded


def test_reloading_the_page_that_shows_a_secret_issues_no_other_one_and_shows_it_no_more(
    administrator: FlaskClient, anna: UUID, rows: Rows
) -> None:
    for address, form, table in (
        (f"/admin/users/{anna}/reset/", {}, "users"),
        ("/admin/api-keys/new/", {"name": "billing"}, "api_keys"),
    ):
        page = issue(administrator, address, **form)
        before = rows.of(table)

        again = administrator.get(address, headers=HTML)

        assert shown_secret(page)
        assert (again.status_code, "secret" in again.text) == (200, False)
        assert rows.of(table) == before


def test_a_form_that_is_sent_twice_issues_and_shows_the_same_secret(
    administrator: FlaskClient, anna: UUID, rows: Rows
) -> None:
    for address, extra in ((f"/admin/users/{anna}/reset/", {}), ("/admin/api-keys/new/", {"name": "billing"})):
        page = administrator.get(address).text
        form = dict(re.findall(r'name="(csrf_token|once)" value="([^"]*)"', page)) | extra
        shown = []

        for _ in range(2):
            administrator.post(address, data=form, headers=HTML)
            shown.append(shown_secret(administrator.get(address, headers=HTML)))

        assert len(set(shown)) == 1
    assert len(rows.of("api_keys")) == 1
    assert [row["action"] for row in rows.of("audit_log")].count("key_created") == 1


def test_an_issued_password_is_shown_only_where_and_while_it_is_valid(
    administrator: FlaskClient, anna: UUID, app: Flask
) -> None:
    address = f"/admin/users/{anna}/reset/"
    other = f"/admin/users/{anna}/block/"
    confirm(administrator, address)

    assert "secret" not in administrator.get(other).text
    get_runtime(app).database.write_transaction(users.reset_password, anna, "hmac-sha256$0$AA==$AA==")
    assert "secret" not in administrator.get(address).text

    confirm(administrator, address)
    with administrator.session_transaction() as session:
        session["issued"]["at"] -= SECRET_SHOWN_S + 1
        session.modified = True
    assert "secret" not in administrator.get(address).text


def test_an_issued_secret_is_neither_stored_nor_logged(
    administrator: FlaskClient, anna: UUID, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        secrets = [
            reset(administrator, anna),
            shown_secret(issue(administrator, "/admin/api-keys/new/", name="billing")),
        ]

    with administrator.session_transaction() as session:
        kept = str(dict(session))
    stored = "".join(str(rows.of(table)) for table in ("users", "api_keys", "audit_log"))
    logged = "".join(str(vars(record)) for record in caplog.records)
    for secret in secrets:
        assert not [place for place in (kept, stored, logged) if secret in place]
