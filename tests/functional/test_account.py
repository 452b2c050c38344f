"""The account page and the change of the password."""

import logging
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from project.database import Database
from project.domain import passwords
from tests.builders import ANNA, IVAN, KEY, csrf_token, log_in, useradd
from tests.conftest import Rows

GOOD = "лиловый утюг считает облака"


@pytest.fixture
def client(client: FlaskClient, app: Flask) -> FlaskClient:
    """A browser with its own session, on empty tables."""
    return app.test_client()


@pytest.fixture
def password(client: FlaskClient) -> str:
    """The issued password of Anna, who is logged in in this browser."""
    answer = useradd(client, ANNA, headers={"Idempotency-Key": KEY}).json
    assert answer is not None
    log_in(client, "a.sokolova", answer["password"])
    return str(answer["password"])


def change(browser: FlaskClient, current: str, new: str, confirmation: str | None = None) -> TestResponse:
    """Fill in and submit the form."""
    page = browser.get("/account/")
    assert page.status_code == 200
    form = {"current": current, "new": new, "confirmation": new if confirmation is None else confirmation}
    return browser.post("/account/", data=form | {"csrf_token": csrf_token(page.text)})


def field_errors(page: TestResponse) -> dict[str, str]:
    """Return the error message of each field."""
    return dict(re.findall(r'<p id="(\w+)-error" class="error small" role="alert">([^<]+)</p>', page.text))


def can_log_in(app: Flask, password: str) -> bool:
    """Return whether Anna can log in with this password."""
    return log_in(app.test_client(), "a.sokolova", password).status_code == 302


# --- Page ---


def test_a_user_sees_their_own_data_and_request_unmasked(client: FlaskClient, password: str, rows: Rows) -> None:
    page = client.get("/account/").text

    user_id = rows.of("users")[0]["id"]
    for shown in ("a.sokolova", "Анна Соколова", "+7 912 555-01-41", "Anna@example.org", "31 декабря 1990"):
        assert shown in page
    assert f'href="/results/{user_id}/"' in page
    assert client.get(f"/results/{user_id}/").status_code == 200


def test_contacts_of_other_users_are_not_shown(client: FlaskClient, password: str, app: Flask) -> None:
    other = app.test_client()
    answer = useradd(other, IVAN).json
    assert answer is not None
    log_in(other, "petrov.ivan", answer["password"])

    for page in (other.get("/account/").text, other.get("/results/").text):
        assert "5550141" not in page
        assert "Anna@example.org" not in page


def test_pages_link_to_the_account(client: FlaskClient, password: str) -> None:
    assert 'href="/account/"' in client.get("/results/").text


# --- Change of the password ---


def test_the_new_password_works_and_the_old_one_does_not(client: FlaskClient, password: str, app: Flask) -> None:
    response = change(client, password, GOOD)

    assert (response.status_code, response.location) == (302, "/account/")
    assert "Пароль изменён." in client.get("/account/").text
    assert can_log_in(app, GOOD)
    assert not can_log_in(app, password)


def test_a_password_change_ends_other_sessions_but_not_the_current_one(
    client: FlaskClient, password: str, app: Flask
) -> None:
    other = app.test_client()
    log_in(other, "a.sokolova", password)
    thief = app.test_client()
    cookie = client.get_cookie("session")
    assert cookie is not None
    thief.set_cookie("session", cookie.value)
    had_access = thief.get("/results/").status_code == 200

    change(client, password, GOOD)

    assert had_access
    assert client.get("/results/").status_code == 200
    assert other.get("/results/").status_code == 302
    assert thief.get("/results/").status_code == 302, "a copy of the former cookie must be invalid"


@pytest.mark.usefixtures("real_argon2")
def test_a_chosen_password_is_stored_as_argon2id_with_the_parameters_of_owasp(
    client: FlaskClient, password: str, rows: Rows
) -> None:
    change(client, password, GOOD)

    [user] = rows.of("users")
    assert user["password_hash"].startswith("argon2id$v=19$m=19456,t=2,p=1$")
    assert user["password_changed_at"] is not None
    assert GOOD not in str(rows.of("users")) + str(rows.attempts())


def test_a_repeated_request_returns_no_password_after_a_password_change(
    client: FlaskClient, password: str, app: Flask
) -> None:
    change(client, password, GOOD)

    answer = useradd(app.test_client(), ANNA, headers={"Idempotency-Key": KEY})

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (409, "credentials_changed")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("x" * 14, "Нужно не меньше 15 символов."),
        ("passwordpassword", "Этот пароль слишком легко угадать. Используйте несколько не связанных между собой слов."),
        ("a.sokolova was here!", "Не используйте логин, почту и телефон: их подбирают в первую очередь."),
        ("kotiki-lyubyat-moloko " * 6, "Можно не больше 128 символов."),
        ("", "Введите новый пароль."),
    ],
)
def test_a_weak_password_is_refused_with_a_message_at_its_field(
    client: FlaskClient, password: str, rows: Rows, chosen: str, message: str
) -> None:
    before = rows.of("users")

    page = change(client, password, chosen)

    assert (page.status_code, field_errors(page)) == (422, {"new": message})
    assert rows.of("users") == before
    assert not chosen or chosen not in page.text


def test_error_messages_are_available_in_english(client: FlaskClient, password: str) -> None:
    client.get("/account/?lang=en")

    page = change(client, "wrong", "x" * 20, "y")

    assert field_errors(page) == {"confirmation": "The new passwords do not match."}
    assert field_errors(change(client, "wrong", GOOD)) == {"current": "This is not your current password."}
    assert field_errors(change(client, password, "short")) == {"new": "Use at least 15 characters."}


@pytest.mark.parametrize("current", ["wrong", "", "x" * 129, "лиловый утюг"])
def test_a_wrong_current_password_changes_nothing(client: FlaskClient, password: str, rows: Rows, current: str) -> None:
    before = rows.of("users")

    page = change(client, current, GOOD)

    assert page.status_code == 422
    assert field_errors(page).keys() == {"current"}
    assert rows.of("users") == before


def test_a_form_without_a_csrf_token_changes_nothing(client: FlaskClient, password: str, rows: Rows) -> None:
    before = rows.of("users")

    response = client.post("/account/", data={"current": password, "new": GOOD, "confirmation": GOOD})

    assert response.status_code == 400
    assert rows.of("users") == before


def test_the_second_of_two_concurrent_changes_fails_because_its_current_password_is_outdated(
    client: FlaskClient, password: str, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_chosen = passwords.Passwords.hash_chosen

    def hash_after_another_change(self: passwords.Passwords, chosen: str) -> str:
        rows.query("update users set password_hash = 'argon2id$another'")
        return hash_chosen(self, chosen)

    monkeypatch.setattr(passwords.Passwords, "hash_chosen", hash_after_another_change)

    page = change(client, password, GOOD)

    assert (page.status_code, list(field_errors(page))) == (422, ["current"])
    assert rows.of("users")[0]["password_hash"] == "argon2id$another"


def test_passwords_are_hashed_outside_of_database_transactions(
    client: FlaskClient, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[str] = []
    during: list[bool] = []

    class Spy(PasswordHasher):
        def hash(self, *arguments: Any, **options: Any) -> str:
            during.append(bool(inside))
            return super().hash(*arguments, **options)

        def verify(self, *arguments: Any) -> Any:
            during.append(bool(inside))
            return super().verify(*arguments)

    write_transaction = Database.write_transaction

    def watched(self: Database, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        inside.append("transaction")
        try:
            return write_transaction(self, work, *arguments, **named)
        finally:
            inside.pop()

    monkeypatch.setattr(passwords, "_argon2", Spy(time_cost=1, memory_cost=8, parallelism=1))
    monkeypatch.setattr(Database, "write_transaction", watched)

    change(client, password, GOOD)
    change(client, GOOD, "другой утюг считает тучи")

    assert during == [False, False, False]  # hashed, then verified and hashed


def test_the_change_is_logged_without_a_password(
    client: FlaskClient, password: str, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    change(client, password, GOOD)
    change(client, "wrong", GOOD)

    user_id = rows.of("users")[0]["id"]
    [line] = [record for record in caplog.records if record.getMessage() == "password changed"]
    assert UUID(vars(line)["user_id"]) == UUID(vars(line)["by"]) == user_id
    log = "".join(str(vars(record)) for record in caplog.records)
    assert GOOD not in log
    assert password not in log
