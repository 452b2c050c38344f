"""Login and logout: who gets access, for how long, and what others cannot learn or forge."""

import io
import re
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote
from uuid import uuid4

import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from config import Config
from project.domain import passwords
from project.domain.passwords import Passwords
from project.runtime import Runtime
from tests.builders import ANNA, HTML, IVAN, csrf_token, log_in, rename_user, useradd
from tests.conftest import MakeApp, Rows

MINUTE, HOUR = 60, 3600


@pytest.fixture
def client(client: FlaskClient, app: Flask) -> FlaskClient:
    """A browser with its own session, on empty tables."""
    return app.test_client()


@pytest.fixture
def password(client: FlaskClient) -> str:
    """The password of Anna, an existing user."""
    return create(client, ANNA)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The schemes of all hashes that have been checked since the start of the test."""
    schemes: list[str] = []
    verify = Passwords.verify

    def spy(self: Passwords, password: str, stored: str) -> bool:
        schemes.append(stored.partition("$")[0])
        return verify(self, password, stored)

    monkeypatch.setattr(Passwords, "verify", spy)
    return schemes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of sessions, `clock.passed` seconds ahead."""
    clock = SimpleNamespace(passed=0)
    monkeypatch.setattr("project.http.sessions.time", SimpleNamespace(time=lambda: time.time() + clock.passed))
    return clock


@pytest.fixture
def client_with(make_app: MakeApp) -> Callable[..., FlaskClient]:
    """Creates a browser for the same service with other settings."""

    def make_client(**settings: object) -> FlaskClient:
        return make_app(**settings).test_client()

    return make_client


def create(client: FlaskClient, body: dict[str, Any]) -> str:
    """Create a user and return the password."""
    answer = useradd(client, body)
    assert answer.json is not None
    return str(answer.json["password"])


def is_logged_in(client: FlaskClient) -> bool:
    """Return whether this browser has access to the statistics."""
    return client.get("/results/").status_code == 200


def session_cookie(client: FlaskClient) -> str:
    """Return the session cookie of a browser."""
    cookie = client.get_cookie("session")
    assert cookie is not None
    return cookie.value


def log_out(client: FlaskClient) -> TestResponse:
    """Submit the logout form."""
    return client.post("/logout/", data={"csrf_token": csrf_token(client.get("/login/").text)})


def set_cookie_of(response: TestResponse) -> tuple[str, set[str]]:
    """Return name and attributes of the session cookie that a response sets."""
    [header] = [value for value in response.headers.getlist("Set-Cookie") if "session=" in value]
    name, *attributes = header.split("; ")
    return name.partition("=")[0], {attribute for attribute in attributes if not attribute.startswith("Expires")}


# --- Valid and invalid logins ---


@pytest.mark.parametrize(
    "login",
    [
        *("a.sokolova", "A.SOKOLOVA", " a.sokolova ", "ａ.sokolova", "anna@example.org", "ANNA@Example.ORG"),
        *("+79125550141", "8 (912) 555-01-41", "8-912-555-01-41", "\u202a(+7) 912 555 01 41\u202c"),
    ],
)
def test_users_log_in_by_username_phone_or_email_in_any_spelling(
    client: FlaskClient, password: str, login: str
) -> None:
    response = log_in(client, login, password)

    assert (response.status_code, response.location) == (302, "/results/")
    assert is_logged_in(client)


@pytest.mark.parametrize("login", ["Ivan@Straße.DE", "ivan@xn--strae-oqa.de", "mailto:ivan@straße.de"])
def test_users_log_in_by_every_spelling_of_their_email_and_by_no_other_domain(client: FlaskClient, login: str) -> None:
    strasse = create(client, {"name": "N", "username": "one", "email": "ivan@strasse.de"})
    sharp = create(client, {"name": "N", "username": "two", "email": "ivan@straße.de"})

    assert log_in(client, login, strasse).status_code == 401
    assert log_in(client, login, sharp).status_code == 302


def test_an_email_that_only_a_former_version_accepted_still_logs_in(client: FlaskClient, rows: Rows) -> None:
    password = create(client, {"name": "N", "username": "one", "email": "one@example.org"})
    rows.query("update identifiers set value = 'iv\u0430n@mail.ru' where kind = 'email'")

    assert log_in(client, "Iv\u0430n@Mail.ru", password).status_code == 302


@pytest.mark.parametrize("login", ["a.sokolov", "nobody", "", " ", "%", "a.sokolova%", "+79125550142", "' or 1=1 --"])
def test_an_unknown_login_is_refused(client: FlaskClient, password: str, login: str) -> None:
    response = log_in(client, login, password)

    assert response.status_code == 401
    assert not is_logged_in(client)


@pytest.mark.parametrize(
    "typed",
    [
        str.upper,
        lambda text: f"\u00a0{text}\r\n",
        lambda text: f"«{text}»",
        lambda text: f'"{text}".',
        lambda text: text.replace("-", ""),
        lambda text: text.replace("-", "\u2014"),
        lambda text: text.replace("-", " \u2011 "),
        "\u200b".join,
        lambda text: "".join(chr(ord(letter) + 0xFEE0) for letter in text),
    ],
    ids=["capitals", "blanks", "guillemets", "quotes", "no dashes", "em dashes", "blanks and dashes", "zero", "wide"],
)
def test_an_issued_password_may_be_typed_and_pasted_as_people_do(
    client: FlaskClient, password: str, typed: Callable[[str], str]
) -> None:
    response = log_in(client, "a.sokolova", typed(password))

    assert response.status_code == 302


@pytest.mark.parametrize(
    ("typed", "status"),
    [
        (" Correct horse battery\u00a0", 302),
        ("Correct horse battery", 302),
        ("correct horse battery", 401),
        ("Correcthorsebattery", 401),
        ('"Correct horse battery"', 401),
    ],
)
def test_a_chosen_password_counts_as_it_came_or_without_blanks_around_it(
    client: FlaskClient, rows: Rows, app: Flask, typed: str, status: int
) -> None:
    create(client, ANNA)
    chosen = cast(Runtime, app.extensions["useradd"]).passwords.hash_chosen("Correct horse battery")
    rows.query("update users set password_hash = :chosen", chosen=chosen)

    assert log_in(client, "a.sokolova", typed).status_code == status


def test_a_chosen_password_with_blanks_around_it_is_tried_as_it_came(
    client: FlaskClient, rows: Rows, app: Flask
) -> None:
    create(client, ANNA)
    chosen = cast(Runtime, app.extensions["useradd"]).passwords.hash_chosen(" correct horse battery ")
    rows.query("update users set password_hash = :chosen", chosen=chosen)

    assert log_in(client, "a.sokolova", " correct horse battery ").status_code == 302


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: f"{text}2", lambda _: ""])
def test_a_similar_password_is_refused(client: FlaskClient, password: str, change: Callable[[str], str]) -> None:
    response = log_in(client, "a.sokolova", change(password))

    assert response.status_code == 401
    assert not is_logged_in(client)


def test_a_login_that_matches_two_users_is_resolved_by_the_password(
    client: FlaskClient, app: Flask, rows: Rows
) -> None:
    anna = create(client, ANNA)
    ivan = create(client, IVAN)
    rename_user(rows, IVAN["username"], "anna@example.org")

    user_ids = {}
    for name, password in (("a.sokolova", anna), ("anna@example.org", ivan)):
        browser = app.test_client()
        log_in(browser, "anna@example.org", password)
        with browser.session_transaction() as session:
            user_ids[name] = session["_user_id"].partition(".")[0]

    assert len(set(user_ids.values())) == 2


def test_users_can_log_in_with_argon2id_passwords(client: FlaskClient, rows: Rows, app: Flask) -> None:
    create(client, ANNA)
    chosen = cast(Runtime, app.extensions["useradd"]).passwords.hash_chosen("correct horse battery staple")
    rows.query("update users set password_hash = :chosen", chosen=chosen)

    response = log_in(client, "a.sokolova", "correct horse battery staple")

    assert response.status_code == 302


def test_a_blocked_user_cannot_log_in(client: FlaskClient, password: str, rows: Rows) -> None:
    rows.query("update users set is_active = false")

    response = log_in(client, "a.sokolova", password)

    assert response.status_code == 401


# --- No user enumeration (S35, S37) ---


@pytest.mark.parametrize("scheme", ["hmac-sha256", "argon2id"])
def test_an_unknown_login_and_a_wrong_password_get_the_same_response_at_the_same_cost(
    client: FlaskClient, rows: Rows, app: Flask, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    slow: list[str] = []

    class Spy(PasswordHasher):
        def verify(self, *arguments: Any) -> Any:
            slow.append("check")
            return super().verify(*arguments)

    monkeypatch.setattr(passwords, "_argon2", Spy(time_cost=1, memory_cost=8, parallelism=1))
    runtime = cast(Runtime, app.extensions["useradd"])

    answers, costs = [], []
    for exists in (False, True):
        if exists:
            create(client, ANNA)
            rows.query(
                "update users set password_hash = :new",
                new=replace(runtime.passwords, scheme=scheme).hash_generated("x"),
            )
        slow.clear()
        response = log_in(client, "a.sokolova", "a wrong password")
        answers.append((response.status_code, re.sub(r'value="[\w.-]{40,}"', "", without_id(response))))
        costs.append(len(slow))

    assert answers[0] == answers[1]
    assert answers[0][0] == 401
    assert costs == [1, 1]


def without_id(response: TestResponse) -> str:
    """Return a page without its request ID."""
    return response.text.replace(response.headers["X-Request-Id"], "")


def test_a_wrong_password_runs_the_same_checks_for_known_and_unknown_logins(
    client: FlaskClient, password: str, verified: list[str]
) -> None:
    log_in(client, "a.sokolova", "a wrong password")
    for_known_login = verified.copy()
    verified.clear()
    log_in(client, "nobody", "a wrong password")

    assert for_known_login == verified == ["hmac-sha256", "argon2id"]


@pytest.mark.parametrize(("length", "status"), [(129, 401), (15_000, 401), (1_000_000, 413)])
def test_a_password_over_the_length_limit_is_refused_before_hashing(
    client: FlaskClient, verified: list[str], length: int, status: int
) -> None:
    response = log_in(client, "a.sokolova", "x" * length)

    assert response.status_code == status
    assert verified == []


@pytest.mark.parametrize(
    "login",
    ["a\0b", "\0", "%00", "\udc80", "\u202e", "x" * 5000, "'; drop table users --", "+" * 300, "@" * 300, "１" * 64],
    ids=ascii,
)
def test_unusual_logins_are_refused_without_an_error(client: FlaskClient, login: str) -> None:
    token = csrf_token(client.get("/login/").text)
    fields = {"login": login, "password": login, "csrf_token": token}
    body = "&".join(f"{name}={quote(text.encode(errors='surrogateescape'))}" for name, text in fields.items())

    response = client.post("/login/", data=body, content_type="application/x-www-form-urlencoded")

    assert response.status_code == 401


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"%ED%A0%80", b"%FF", b"\0"])
def test_form_data_that_is_not_utf8_is_refused_without_an_error(client: FlaskClient, raw: bytes) -> None:
    token = csrf_token(client.get("/login/").text).encode()

    response = client.post(
        "/login/",
        data=b"csrf_token=" + token + b"&password=x&login=" + raw,
        content_type="application/x-www-form-urlencoded",
    )

    assert response.status_code in {400, 401}


@pytest.mark.parametrize("field", ["login", "password"])
def test_a_file_in_place_of_a_text_field_is_refused(client: FlaskClient, field: str) -> None:
    form: dict[str, object] = {"login": "a", "password": "b", "csrf_token": csrf_token(client.get("/login/").text)}
    form[field] = (io.BytesIO(b"x"), "x.txt")

    response = client.post("/login/", data=form, content_type="multipart/form-data")

    assert response.status_code == 401


# --- Start and end of sessions (S40, S41, S43, S44, S55) ---


def test_a_cookie_copied_before_the_logout_does_not_work_after_it(
    client: FlaskClient, app: Flask, password: str
) -> None:
    log_in(client, "a.sokolova", password)
    thief = app.test_client()
    thief.set_cookie("session", session_cookie(client))
    had_access = is_logged_in(thief)

    response = log_out(client)

    assert had_access
    assert (response.status_code, response.location) == (302, "/login/")
    assert not is_logged_in(client)
    assert not is_logged_in(thief)


def test_a_logout_does_not_affect_other_users(client: FlaskClient, app: Flask, password: str) -> None:
    other = app.test_client()
    log_in(other, "petrov.ivan", create(other, IVAN))
    log_in(client, "a.sokolova", password)

    log_out(client)

    assert is_logged_in(other)


def test_a_logout_without_a_login_is_no_error(client: FlaskClient) -> None:
    response = log_out(client)

    assert (response.status_code, response.location) == (302, "/login/")


def test_a_login_starts_a_new_session_without_data_of_the_former_one(client: FlaskClient, password: str) -> None:
    client.get("/login/")
    with client.session_transaction() as session:
        session["planted"] = "by an attacker"
    before = session_cookie(client)
    token = csrf_token(client.get("/login/").text)

    log_in(client, "a.sokolova", password)

    assert session_cookie(client) != before
    with client.session_transaction() as session:
        assert "planted" not in session
        assert "csrf_token" not in session
    assert client.post("/logout/", data={"csrf_token": token}).status_code == 400


def test_a_session_expires_after_half_an_hour_of_inactivity(
    client: FlaskClient, password: str, clock: SimpleNamespace
) -> None:
    log_in(client, "a.sokolova", password)

    clock.passed = 29 * MINUTE
    in_time = is_logged_in(client)
    clock.passed += 31 * MINUTE

    assert in_time
    assert not is_logged_in(client)


@pytest.mark.slow
def test_an_active_session_expires_after_twelve_hours(
    client: FlaskClient, password: str, clock: SimpleNamespace
) -> None:
    log_in(client, "a.sokolova", password)

    visits = {}
    for clock.passed in range(0, 13 * HOUR, 20 * MINUTE):
        visits[clock.passed] = is_logged_in(client)

    assert {passed for passed, seen in visits.items() if seen} == set(range(0, 12 * HOUR, 20 * MINUTE))


def test_polling_by_an_open_page_does_not_extend_the_session(
    client: FlaskClient, password: str, clock: SimpleNamespace
) -> None:
    log_in(client, "a.sokolova", password)

    for clock.passed in range(0, 31 * MINUTE, MINUTE):
        client.get(f"/results/?newer={uuid4()}", headers={"HX-Request-Type": "partial"})

    assert not is_logged_in(client)


def test_an_expired_session_is_not_revived_by_a_visit_to_a_public_page(
    client: FlaskClient, password: str, clock: SimpleNamespace
) -> None:
    log_in(client, "a.sokolova", password)

    clock.passed = 31 * MINUTE
    client.get("/login/")

    assert not is_logged_in(client)


def test_a_blocked_user_is_logged_out_at_once(client: FlaskClient, password: str, rows: Rows) -> None:
    log_in(client, "a.sokolova", password)
    was_logged_in = is_logged_in(client)

    rows.query("update users set is_active = false")

    assert was_logged_in
    assert not is_logged_in(client)


def test_a_deleted_user_is_logged_out_at_once(client: FlaskClient, password: str, rows: Rows) -> None:
    log_in(client, "a.sokolova", password)

    rows.query("delete from users")

    assert not is_logged_in(client)


@pytest.mark.parametrize("change", [lambda text: text[:-9] + ("x" if text[-9] != "x" else "y") + text[-8:], str.upper])
def test_a_forged_cookie_gives_no_access(
    client: FlaskClient, app: Flask, password: str, change: Callable[[str], str]
) -> None:
    log_in(client, "a.sokolova", password)
    forger = app.test_client()
    forger.set_cookie("session", change(session_cookie(client)))

    assert not is_logged_in(forger)


def test_after_a_rotation_of_the_secret_old_sessions_are_valid_only_with_fallbacks(
    client: FlaskClient, config: Config, password: str, client_with: Callable[..., FlaskClient]
) -> None:
    log_in(client, "a.sokolova", password)
    new_secret = "another secret of 32 characters and more"

    with_fallback = client_with(secret_key=new_secret, secret_key_fallbacks=(config.secret_key,))
    without_fallback = client_with(secret_key=new_secret)
    for browser in (with_fallback, without_fallback):
        browser.set_cookie("session", session_cookie(client))

    assert is_logged_in(with_fallback)
    assert not is_logged_in(without_fallback)


def test_without_postgresql_a_user_sees_an_error_page_and_stays_logged_in(
    client: FlaskClient, password: str, client_with: Callable[..., FlaskClient]
) -> None:
    log_in(client, "a.sokolova", password)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql+psycopg2://u:p@127.0.0.1:{closed.getsockname()[1]}/useradd"
        browser = client_with(database_url=url, request_deadline_s=0.5)
    browser.set_cookie("session", session_cookie(client))

    response = browser.get("/results/", headers=HTML)

    assert (response.status_code, response.mimetype) == (503, "text/html")
    assert response.headers.getlist("Set-Cookie") == []
    assert session_cookie(browser) == session_cookie(client)
    assert is_logged_in(client)


# --- Cookies (S42) ---


def test_a_user_is_recognized_while_all_connections_for_statistics_are_busy(
    reader: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: float) -> bool:
        return False

    runtime = cast(Runtime, app.extensions["useradd"])
    monkeypatch.setattr(runtime.read_database._permits, "acquire", refuse)

    answer = reader.get("/results/", headers=HTML)

    assert answer.status_code == 503
    assert "petrov.ivan" in answer.text


@pytest.mark.parametrize(("seconds", "is_valid"), [(-2, True), (-50, True), (-70, False)])
def test_a_session_outlives_a_clock_that_is_set_back_a_little(
    client: FlaskClient, password: str, monkeypatch: pytest.MonkeyPatch, seconds: int, is_valid: bool
) -> None:
    """F71: the library rejects a signature from the future, even by a second."""
    log_in(client, "a.sokolova", password)
    shifted = SimpleNamespace(time=lambda: time.time() + seconds)
    monkeypatch.setattr("project.http.sessions.time", shifted)
    monkeypatch.setattr("itsdangerous.timed.time", shifted)

    assert is_logged_in(client) is is_valid


def test_over_https_the_cookie_is_secure_and_bound_to_the_host(client: FlaskClient) -> None:
    response = client.get("/login/", base_url="https://localhost")

    assert set_cookie_of(response) == ("__Host-session", {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"})


def test_over_plain_http_the_cookie_is_http_only(client: FlaskClient) -> None:
    response = client.get("/login/", base_url="http://localhost")

    assert set_cookie_of(response) == ("session", {"HttpOnly", "Path=/", "SameSite=Lax"})


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_with_https_only_every_cookie_is_secure(client_with: Callable[..., FlaskClient], scheme: str) -> None:
    response = client_with(https_only=True).get("/login/", base_url=f"{scheme}://localhost")

    assert set_cookie_of(response) == ("__Host-session", {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"})


def test_users_can_log_in_over_https(client: FlaskClient, password: str) -> None:
    origin = "https://localhost"
    form = {"login": "a.sokolova", "password": password}
    token = csrf_token(client.get("/login/", base_url=origin).text)

    response = client.post(
        "/login/", base_url=origin, data={**form, "csrf_token": token}, headers={"Referer": f"{origin}/login/"}
    )

    assert (response.status_code, response.location) == (302, "/results/")
    assert client.get("/results/", base_url=origin).status_code == 200


# --- Forged requests (S45) ---


@pytest.mark.parametrize("token", [None, "", "garbage", "foreign"])
@pytest.mark.parametrize("page", ["/login/", "/logout/"])
def test_a_form_without_the_csrf_token_of_its_session_is_refused(
    client: FlaskClient, app: Flask, password: str, page: str, token: str | None
) -> None:
    log_in(client, "a.sokolova", password)
    other_token = csrf_token(app.test_client().get("/login/").text)
    form = {"login": "petrov.ivan", "password": password}
    if token is not None:
        form["csrf_token"] = other_token if token == "foreign" else token

    response = client.post(page, data=form)

    assert response.status_code == 400
    assert is_logged_in(client)


def test_a_form_refused_by_csrf_protection_is_reported_as_expired(client: FlaskClient) -> None:
    response = client.post("/login/", data={}, headers={"Accept-Language": "en", "Accept": "application/json"})

    assert response.json is not None
    assert (response.json["code"], response.json["detail"].split(".")[0]) == ("bad_request", "The form has expired")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_get_and_head_requests_do_not_log_out(client: FlaskClient, password: str, method: str) -> None:
    log_in(client, "a.sokolova", password)

    response = client.open("/logout/", method=method)

    assert response.status_code == 405
    assert is_logged_in(client)


# --- Redirects after the login (S50) ---

FOREIGN = [
    *(
        "//evil.example",
        "///evil.example",
        "////evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "\\/evil.example",
    ),
    *("http:evil.example", "http:/evil.example", "http://evil.example", "https:///evil.example", "HTTPS:evil.example"),
    *("javascript:alert(1)", "java\tscript:alert(1)", "data:text/html,x", "vbscript:x", "mailto:a@example.org"),
    *("/\t/evil.example", "/\n/evil.example", "\t//evil.example", " //evil.example", "/%09/evil.example"),
    *("/%2f/evil.example", "/%5cevil.example", "%2f%2fevil.example", "/./\\evil.example", "/results\\@evil.example"),
    *("/results/\r\nSet-Cookie:a=b", "/results/\n", "/results/@evil.example", "//localhost@evil.example/results/"),
    *("http://localhost/results/", "/logout/", "/login/", "/", "", "results/", "/results", "/resultsevil.example/"),
    *("/results/?next=//evil.example", "/results/#x", "/résults/", "/results/\0", "/results/é"),
]


@pytest.mark.parametrize("target", FOREIGN, ids=ascii)
def test_a_login_redirects_only_to_own_pages(client: FlaskClient, password: str, target: str) -> None:
    response = log_in(client, "a.sokolova", password, f"?next={quote(target)}")

    assert (response.status_code, response.location) == (302, "/results/")


@pytest.mark.parametrize(
    "target",
    [
        "/results/",
        "/results/?outcome=rejected&code=invalid_phone&from=2026-11-01T00:00",
        "/results/?text=%D0%98%D0%B2%D0%B0%D0%BD",
        "/results/0190163d-8694-739b-aea5-966c26f8ad91/",
        "/swagger/",
    ],
)
def test_a_login_redirects_to_the_requested_page(client: FlaskClient, password: str, target: str) -> None:
    response = log_in(client, "a.sokolova", password, f"?next={quote(target)}")

    assert response.location == target


def test_a_login_redirects_to_a_protected_page_with_its_query(client: FlaskClient, password: str) -> None:
    redirect = client.get("/results/?outcome=rejected&text=%D0%98%D0%B2%D0%B0%D0%BD")
    query = redirect.location.removeprefix("/login/")

    response = log_in(client, "a.sokolova", password, query)

    assert redirect.status_code == 302
    assert response.location == "/results/?outcome=rejected&text=%D0%98%D0%B2%D0%B0%D0%BD"


def test_a_failed_login_keeps_the_requested_page(client: FlaskClient, password: str) -> None:
    log_in(client, "a.sokolova", "wrong", "?next=/swagger/")

    response = log_in(client, "a.sokolova", password, "?next=/swagger/")

    assert response.location == "/swagger/"


def test_a_login_for_a_file_leads_to_its_page_from_which_the_download_starts_once(
    client: FlaskClient, password: str
) -> None:
    target = "/results/export.xlsx?period=30d&result=rejected"

    response = log_in(client, "a.sokolova", password, f"?next={quote(target)}")

    assert response.headers["Location"] == "/results/?period=30d&result=rejected"
    first, second = (client.get(response.headers["Location"]).text for _ in range(2))
    start = f'<meta http-equiv="refresh" content="0; url={target.replace("&", "&amp;")}">'
    assert (first.count(start), second.count("http-equiv")) == (1, 0)


def test_a_login_form_submitted_after_a_login_in_another_tab_goes_on(client: FlaskClient, password: str) -> None:
    stale = csrf_token(client.get("/login/").text)
    log_in(client, "a.sokolova", password)

    form = {"login": "a.sokolova", "password": password, "csrf_token": stale}
    response = client.post("/login/?next=/account/", data=form, headers=HTML)

    assert (response.status_code, response.headers["Location"]) == (302, "/account/")


def test_a_login_form_whose_cookie_is_lost_is_shown_again_with_a_token_that_works(
    app: Flask, client: FlaskClient, password: str
) -> None:
    stale = csrf_token(client.get("/login/").text)
    browser = app.test_client()

    form = {"login": "a.sokolova", "password": password, "csrf_token": stale}
    response = browser.post("/login/?next=/account/", data=form, headers=HTML)

    assert (response.status_code, response.headers["Location"]) == (302, "/login/?next=/account/")
    page = browser.get(response.headers["Location"]).text
    assert "The form had expired" in page or "Форма устарела" in page
    again = browser.post("/login/?next=/account/", data=form | {"csrf_token": csrf_token(page)}, headers=HTML)
    assert again.headers["Location"] == "/account/"


def test_logging_out_twice_leads_to_the_login_page(client: FlaskClient, password: str) -> None:
    log_in(client, "a.sokolova", password)
    token = csrf_token(client.get("/account/").text)
    client.post("/logout/", data={"csrf_token": token}, headers=HTML)

    response = client.post("/logout/", data={"csrf_token": token}, headers=HTML)

    assert (response.status_code, response.headers["Location"]) == (302, "/login/")


def test_an_outdated_log_out_form_logs_nobody_out_and_says_so(client: FlaskClient, password: str) -> None:
    log_in(client, "a.sokolova", password)

    response = client.post("/logout/", data={"csrf_token": "outdated"}, headers=HTML, follow_redirects=True)

    assert response.request.path == "/account/"
    assert 'role="status"' in response.text


def test_programs_get_400_for_a_form_without_a_token(client: FlaskClient) -> None:
    assert client.post("/login/", data={"login": "a", "password": "b"}).status_code == 400
