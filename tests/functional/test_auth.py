"""Logging in and out: who gets in, how long, and what a stranger cannot learn or forge."""

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
from project.domain import passwords as words
from project.domain.passwords import Passwords
from project.runtime import Runtime
from tests.builders import ANNA, HTML, IVAN, csrf_token, log_in, useradd
from tests.conftest import MakeApp, Rows

MINUTE, HOUR = 60, 3600


@pytest.fixture
def client(client: FlaskClient, app: Flask) -> FlaskClient:
    """A browser on empty tables whose requests share nothing with those of a second browser."""
    return app.test_client()


@pytest.fixture
def password(client: FlaskClient) -> str:
    """The password of Anna, who exists."""
    return create(client, ANNA)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scheme of every hash that a password is checked against from now on."""
    schemes: list[str] = []
    verify = Passwords.verify

    def spy(self: Passwords, password: str, stored: str) -> bool:
        schemes.append(stored.partition("$")[0])
        return verify(self, password, stored)

    monkeypatch.setattr(Passwords, "verify", spy)
    return schemes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that sessions go by; `clock.passed` seconds later than it is."""
    clock = SimpleNamespace(passed=0)
    monkeypatch.setattr("project.http.sessions.time", SimpleNamespace(time=lambda: time.time() + clock.passed))
    return clock


@pytest.fixture
def served_by(make_app: MakeApp) -> Callable[..., FlaskClient]:
    """Makes a browser of the same service with other settings."""

    def make(**settings: object) -> FlaskClient:
        return make_app(**settings).test_client()

    return make


def create(client: FlaskClient, body: dict[str, Any]) -> str:
    """Create a user and return the password."""
    answer = useradd(client, body)
    assert answer.json is not None
    return str(answer.json["password"])


def is_logged_in(client: FlaskClient) -> bool:
    """Tell whether this browser may see the statistics."""
    return client.get("/results/").status_code == 200


def session_cookie(client: FlaskClient) -> str:
    """Return what the browser keeps of its session."""
    cookie = client.get_cookie("session")
    assert cookie is not None
    return cookie.value


def log_out(client: FlaskClient) -> TestResponse:
    """Click on the button."""
    return client.post("/logout/", data={"csrf_token": csrf_token(client.get("/login/").text)})


def set_cookie_of(response: TestResponse) -> tuple[str, set[str]]:
    """Return the name of the session's cookie, and its attributes."""
    [header] = [value for value in response.headers.getlist("Set-Cookie") if "session=" in value]
    name, *attributes = header.split("; ")
    return name.partition("=")[0], {attribute for attribute in attributes if not attribute.startswith("Expires")}


# --- Who gets in ---


@pytest.mark.parametrize(
    "login",
    [
        *("a.sokolova", "A.SOKOLOVA", " a.sokolova ", "ａ.sokolova", "anna@example.org", "ANNA@Example.ORG"),
        *("+79125550141", "8 (912) 555-01-41", "8-912-555-01-41"),
    ],
)
def test_one_logs_in_by_username_phone_or_email_in_any_spelling(client: FlaskClient, password: str, login: str) -> None:
    response = log_in(client, login, password)

    assert (response.status_code, response.location) == (302, "/results/")
    assert is_logged_in(client)


@pytest.mark.parametrize("login", ["a.sokolov", "nobody", "", " ", "%", "a.sokolova%", "+79125550142", "' or 1=1 --"])
def test_nobody_logs_in_by_another_login(client: FlaskClient, password: str, login: str) -> None:
    response = log_in(client, login, password)

    assert response.status_code == 401
    assert not is_logged_in(client)


@pytest.mark.parametrize("change", [str.upper, lambda text: text[:-1], lambda text: f"{text} ", lambda _: ""])
def test_nobody_logs_in_by_almost_the_password(
    client: FlaskClient, password: str, change: Callable[[str], str]
) -> None:
    response = log_in(client, "a.sokolova", change(password))

    assert response.status_code == 401
    assert not is_logged_in(client)


def test_when_a_username_reads_like_anothers_email_the_password_tells_them_apart(
    client: FlaskClient, app: Flask
) -> None:
    anna = create(client, ANNA)
    ivan = create(client, {**IVAN, "username": "anna@example.org"})

    ends = {}
    for name, password in (("a.sokolova", anna), ("anna@example.org", ivan)):
        browser = app.test_client()
        log_in(browser, "anna@example.org", password)
        with browser.session_transaction() as session:
            ends[name] = session["_user_id"].partition(".")[0]

    assert len(set(ends.values())) == 2


def test_argon2id_passwords_log_in_too(client: FlaskClient, rows: Rows, app: Flask) -> None:
    create(client, ANNA)
    chosen = cast(Runtime, app.extensions["useradd"]).passwords.hash_chosen("correct horse battery staple")
    rows.ask("update users set password_hash = :chosen", chosen=chosen)

    response = log_in(client, "a.sokolova", "correct horse battery staple")

    assert response.status_code == 302


def test_a_blocked_user_is_refused_like_a_stranger(client: FlaskClient, password: str, rows: Rows) -> None:
    rows.ask("update users set is_active = false")

    response = log_in(client, "a.sokolova", password)

    assert response.status_code == 401


# --- What a stranger cannot learn (S35, S37) ---


@pytest.mark.parametrize("scheme", ["hmac-sha256", "argon2id"])
def test_an_unknown_login_and_a_wrong_password_are_told_and_cost_the_same(
    client: FlaskClient, rows: Rows, app: Flask, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    slow: list[str] = []

    class Spy(PasswordHasher):
        def verify(self, *arguments: Any) -> Any:
            slow.append("check")
            return super().verify(*arguments)

    monkeypatch.setattr(words, "_argon2", Spy(time_cost=1, memory_cost=8, parallelism=1))
    runtime = cast(Runtime, app.extensions["useradd"])

    answers, costs = [], []
    for exists in (False, True):
        if exists:
            create(client, ANNA)
            rows.ask(
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
    """Return a page without the number of its request."""
    return response.text.replace(response.headers["X-Request-Id"], "")


def test_issued_passwords_are_verified_as_often_as_those_of_nobody(
    client: FlaskClient, password: str, verified: list[str]
) -> None:
    log_in(client, "a.sokolova", "a wrong password")
    for_somebody = verified.copy()
    verified.clear()
    log_in(client, "nobody", "a wrong password")

    assert for_somebody == verified == ["hmac-sha256", "argon2id"]


@pytest.mark.parametrize(("length", "status"), [(129, 401), (15_000, 401), (1_000_000, 413)])
def test_a_password_beyond_the_limit_is_refused_before_it_is_hashed(
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
def test_no_login_whatever_breaks_the_page(client: FlaskClient, login: str) -> None:
    token = csrf_token(client.get("/login/").text)
    fields = {"login": login, "password": login, "csrf_token": token}
    body = "&".join(f"{name}={quote(text.encode(errors='surrogateescape'))}" for name, text in fields.items())

    response = client.post("/login/", data=body, content_type="application/x-www-form-urlencoded")

    assert response.status_code == 401


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"%ED%A0%80", b"%FF", b"\0"])
def test_bytes_that_are_no_text_break_nothing(client: FlaskClient, raw: bytes) -> None:
    token = csrf_token(client.get("/login/").text).encode()

    response = client.post(
        "/login/",
        data=b"csrf_token=" + token + b"&password=x&login=" + raw,
        content_type="application/x-www-form-urlencoded",
    )

    assert response.status_code in {400, 401}


@pytest.mark.parametrize("field", ["login", "password"])
def test_a_file_in_place_of_a_text_is_refused(client: FlaskClient, field: str) -> None:
    form: dict[str, object] = {"login": "a", "password": "b", "csrf_token": csrf_token(client.get("/login/").text)}
    form[field] = (io.BytesIO(b"x"), "x.txt")

    response = client.post("/login/", data=form, content_type="multipart/form-data")

    assert response.status_code == 401


# --- Sessions begin and end (S40, S41, S43, S44, S55) ---


def test_a_cookie_copied_before_the_logout_does_not_work_after_it(
    client: FlaskClient, app: Flask, password: str
) -> None:
    log_in(client, "a.sokolova", password)
    thief = app.test_client()
    thief.set_cookie("session", session_cookie(client))
    could_enter = is_logged_in(thief)

    response = log_out(client)

    assert could_enter
    assert (response.status_code, response.location) == (302, "/login/")
    assert not is_logged_in(client)
    assert not is_logged_in(thief)


def test_a_logout_leaves_other_users_alone(client: FlaskClient, app: Flask, password: str) -> None:
    other = app.test_client()
    log_in(other, "petrov.ivan", create(other, IVAN))
    log_in(client, "a.sokolova", password)

    log_out(client)

    assert is_logged_in(other)


def test_a_logout_of_a_stranger_is_no_error(client: FlaskClient) -> None:
    response = log_out(client)

    assert (response.status_code, response.location) == (302, "/login/")


def test_a_login_starts_a_session_that_has_nothing_of_the_one_before(client: FlaskClient, password: str) -> None:
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


def test_a_session_ends_after_half_an_hour_without_a_visit(
    client: FlaskClient, password: str, clock: SimpleNamespace
) -> None:
    log_in(client, "a.sokolova", password)

    clock.passed = 29 * MINUTE
    in_time = is_logged_in(client)
    clock.passed += 31 * MINUTE

    assert in_time
    assert not is_logged_in(client)


def test_visits_keep_a_session_for_twelve_hours_and_no_longer(
    client: FlaskClient, password: str, clock: SimpleNamespace
) -> None:
    log_in(client, "a.sokolova", password)

    visits = {}
    for clock.passed in range(0, 13 * HOUR, 20 * MINUTE):
        visits[clock.passed] = is_logged_in(client)

    assert {passed for passed, seen in visits.items() if seen} == set(range(0, 12 * HOUR, 20 * MINUTE))


def test_what_an_open_page_asks_by_itself_is_no_visit(
    client: FlaskClient, password: str, clock: SimpleNamespace
) -> None:
    log_in(client, "a.sokolova", password)

    for clock.passed in range(0, 31 * MINUTE, MINUTE):
        client.get(f"/results/?newer={uuid4()}", headers={"HX-Request-Type": "partial"})

    assert not is_logged_in(client)


def test_a_session_that_ended_is_not_revived_by_a_visit_to_an_open_page(
    client: FlaskClient, password: str, clock: SimpleNamespace
) -> None:
    log_in(client, "a.sokolova", password)

    clock.passed = 31 * MINUTE
    client.get("/login/")

    assert not is_logged_in(client)


def test_a_user_who_is_blocked_is_out_at_once(client: FlaskClient, password: str, rows: Rows) -> None:
    log_in(client, "a.sokolova", password)
    was_in = is_logged_in(client)

    rows.ask("update users set is_active = false")

    assert was_in
    assert not is_logged_in(client)


def test_a_user_who_is_deleted_is_out_at_once(client: FlaskClient, password: str, rows: Rows) -> None:
    log_in(client, "a.sokolova", password)

    rows.ask("delete from users")

    assert not is_logged_in(client)


@pytest.mark.parametrize("change", [lambda text: text[:-9] + ("x" if text[-9] != "x" else "y") + text[-8:], str.upper])
def test_a_forged_cookie_opens_nothing(
    client: FlaskClient, app: Flask, password: str, change: Callable[[str], str]
) -> None:
    log_in(client, "a.sokolova", password)
    forger = app.test_client()
    forger.set_cookie("session", change(session_cookie(client)))

    assert not is_logged_in(forger)


def test_after_a_rotation_of_the_secret_old_sessions_live_through_the_fallbacks(
    client: FlaskClient, config: Config, password: str, served_by: Callable[..., FlaskClient]
) -> None:
    log_in(client, "a.sokolova", password)
    fresh = "another secret of 32 characters and more"

    kept = served_by(secret_key=fresh, secret_key_fallbacks=(config.secret_key,))
    forgotten = served_by(secret_key=fresh)
    for browser in (kept, forgotten):
        browser.set_cookie("session", session_cookie(client))

    assert is_logged_in(kept)
    assert not is_logged_in(forgotten)


def test_without_postgres_a_reader_sees_an_error_page_and_stays_logged_in(
    client: FlaskClient, password: str, served_by: Callable[..., FlaskClient]
) -> None:
    log_in(client, "a.sokolova", password)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql+psycopg2://u:p@127.0.0.1:{closed.getsockname()[1]}/useradd"
        browser = served_by(database_url=url, request_deadline_s=0.5)
    browser.set_cookie("session", session_cookie(client))

    response = browser.get("/results/", headers=HTML)

    assert (response.status_code, response.mimetype) == (503, "text/html")
    assert response.headers.getlist("Set-Cookie") == []
    assert session_cookie(browser) == session_cookie(client)
    assert is_logged_in(client)


# --- Cookies (S42) ---


def test_a_reader_is_known_although_statistics_take_all_of_their_connections(
    reader: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(_: float) -> bool:
        return False

    runtime = cast(Runtime, app.extensions["useradd"])
    monkeypatch.setattr(runtime.read_database._permits, "acquire", is_full)

    answer = reader.get("/results/", headers=HTML)

    assert answer.status_code == 503
    assert "petrov.ivan" in answer.text


def test_over_https_the_cookie_belongs_to_this_host_alone(client: FlaskClient) -> None:
    response = client.get("/login/", base_url="https://localhost")

    assert set_cookie_of(response) == ("__Host-session", {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"})


def test_over_plain_http_the_cookie_is_kept_too_but_from_scripts(client: FlaskClient) -> None:
    response = client.get("/login/", base_url="http://localhost")

    assert set_cookie_of(response) == ("session", {"HttpOnly", "Path=/", "SameSite=Lax"})


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_where_https_is_a_must_every_cookie_is_secure(served_by: Callable[..., FlaskClient], scheme: str) -> None:
    response = served_by(https_only=True).get("/login/", base_url=f"{scheme}://localhost")

    assert set_cookie_of(response) == ("__Host-session", {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"})


def test_one_logs_in_over_https(client: FlaskClient, password: str) -> None:
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
def test_a_form_without_a_token_of_this_session_is_refused(
    client: FlaskClient, app: Flask, password: str, page: str, token: str | None
) -> None:
    log_in(client, "a.sokolova", password)
    foreign = csrf_token(app.test_client().get("/login/").text)
    form = {"login": "petrov.ivan", "password": password}
    if token is not None:
        form["csrf_token"] = foreign if token == "foreign" else token

    response = client.post(page, data=form)

    assert response.status_code == 400
    assert is_logged_in(client)


def test_a_refused_form_says_in_words_that_it_has_expired(client: FlaskClient) -> None:
    response = client.post("/login/", data={}, headers={"Accept-Language": "en", "Accept": "application/json"})

    assert response.json is not None
    assert (response.json["code"], response.json["detail"].split(".")[0]) == ("bad_request", "The form has expired")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_link_or_an_image_cannot_log_anybody_out(client: FlaskClient, password: str, method: str) -> None:
    log_in(client, "a.sokolova", password)

    response = client.open("/logout/", method=method)

    assert response.status_code == 405
    assert is_logged_in(client)


# --- Where a login leads (S50) ---

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


@pytest.mark.parametrize("wanted", FOREIGN, ids=ascii)
def test_a_login_leads_nowhere_but_to_our_own_pages(client: FlaskClient, password: str, wanted: str) -> None:
    response = log_in(client, "a.sokolova", password, f"?next={quote(wanted)}")

    assert (response.status_code, response.location) == (302, "/results/")


@pytest.mark.parametrize(
    "wanted",
    [
        "/results/",
        "/results/?outcome=rejected&code=invalid_phone&from=2026-11-01T00:00",
        "/results/?text=%D0%98%D0%B2%D0%B0%D0%BD",
        "/results/0190163d-8694-739b-aea5-966c26f8ad91/",
        "/results/export.xlsx?outcome=created",
        "/swagger/",
    ],
)
def test_a_login_leads_back_to_the_page_that_asked_for_it(client: FlaskClient, password: str, wanted: str) -> None:
    response = log_in(client, "a.sokolova", password, f"?next={quote(wanted)}")

    assert response.location == wanted


def test_a_closed_page_comes_back_after_the_login_with_its_question(client: FlaskClient, password: str) -> None:
    sent_away = client.get("/results/?outcome=rejected&text=%D0%98%D0%B2%D0%B0%D0%BD")
    query = sent_away.location.removeprefix("/login/")

    response = log_in(client, "a.sokolova", password, query)

    assert sent_away.status_code == 302
    assert response.location == "/results/?outcome=rejected&text=%D0%98%D0%B2%D0%B0%D0%BD"


def test_a_login_that_failed_once_still_leads_there(client: FlaskClient, password: str) -> None:
    log_in(client, "a.sokolova", "wrong", "?next=/swagger/")

    response = log_in(client, "a.sokolova", password, "?next=/swagger/")

    assert response.location == "/swagger/"
