"""`flask users block|unblock|reset-password` and `flask api-keys`."""

import re
from collections.abc import Callable

import pytest
from click.testing import Result
from flask import Flask
from flask.cli import FlaskGroup
from flask.testing import FlaskClient

from project.database.breaker import Breaker
from project.runtime import get_runtime
from tests.builders import ANNA, IVAN, log_in, rename_user, useradd
from tests.conftest import Rows

Command = Callable[..., Result]


@pytest.fixture
def client(client: FlaskClient, app: Flask) -> FlaskClient:
    """A browser with its own session, on empty tables."""
    return app.test_client()


@pytest.fixture
def flask(app: Flask, client: FlaskClient) -> Command:
    """Runs a command on empty tables like the program `flask`."""

    def run(*arguments: str) -> Result:
        group = FlaskGroup(create_app=lambda: app, load_dotenv=False)
        return app.test_cli_runner().invoke(group, arguments)

    return run


@pytest.fixture
def password(client: FlaskClient) -> str:
    """The password of Anna, an existing user."""
    answer = useradd(client, ANNA).json
    assert answer is not None
    return str(answer["password"])


@pytest.mark.parametrize("login", ["a.sokolova", "A.SOKOLOVA", "8 (912) 555-01-41", "anna@example.org"])
def test_a_user_can_be_blocked_and_unblocked_by_any_login(
    flask: Command, client: FlaskClient, password: str, login: str
) -> None:
    blocked = flask("users", "block", login)
    refused = log_in(client, "a.sokolova", password).status_code

    unblocked = flask("users", "unblock", login)

    assert (blocked.exit_code, blocked.output) == (0, "a.sokolova is blocked.\n")
    assert (unblocked.exit_code, unblocked.output) == (0, "a.sokolova can log in again.\n")
    assert (refused, log_in(client, "a.sokolova", password).status_code) == (401, 302)


def test_a_reset_prints_the_new_password_and_invalidates_the_old_one(
    flask: Command, app: Flask, password: str, rows: Rows
) -> None:
    result = flask("users", "reset-password", "a.sokolova")

    printed = re.fullmatch(r"Login:    a\.sokolova\nPassword: (\S+)\n", result.output)
    assert printed, result.output
    assert log_in(app.test_client(), "a.sokolova", printed[1]).status_code == 302
    assert log_in(app.test_client(), "a.sokolova", password).status_code == 401
    assert rows.of("users")[0]["password_changed_at"] is not None


@pytest.mark.parametrize("command", ["block", "unblock", "reset-password"])
def test_a_login_of_two_users_is_refused_and_both_are_listed(
    flask: Command, client: FlaskClient, password: str, rows: Rows, command: str
) -> None:
    """A username of a former version may be somebody else's e-mail address."""
    assert useradd(client, {"name": "Другая", "username": "other", "phone": "+79995550199"}).status_code == 201
    rename_user(rows, "other", "anna@example.org")
    before = rows.of("users")

    result = flask("users", command, "Anna@example.org")

    assert result.exit_code == 1
    assert rows.of("users") == before
    lines = [line.split("  ") for line in result.output.splitlines()[1:]]
    assert [line[1:] for line in lines] == [
        [f"id:{before[0]['id']}", "a.sokolova", "+7 912 •••-••-41", "A•••@example.org"],
        [f"id:{before[1]['id']}", "anna@example.org", "+7 999 •••-••-99"],
    ]
    assert flask("users", command, lines[1][1]).exit_code == 0
    assert rows.of("users")[0] == before[0] != rows.of("users")[1]


@pytest.mark.parametrize("command", ["block", "unblock", "reset-password"])
@pytest.mark.parametrize("login", ["nobody", "", "\udcff", "a\nb"])
def test_an_unknown_login_is_reported(flask: Command, password: str, rows: Rows, command: str, login: str) -> None:
    before = rows.of("users")

    result = flask("users", command, login)

    assert (result.exit_code, result.output[:7]) == (1, "Error: ")
    assert rows.of("users") == before


@pytest.mark.parametrize("role", ["auditor", "administrator"])
def test_a_role_is_granted_and_revoked_and_ends_sessions(
    flask: Command, client: FlaskClient, password: str, rows: Rows, role: str
) -> None:
    useradd(client, IVAN)
    rows.query("update users set role = 'administrator' where username = 'petrov.ivan'")
    log_in(client, "a.sokolova", password)

    granted = flask("users", "grant", "anna@example.org", "--role", role)

    assert granted.output == f"a.sokolova has a role now: {role.title()}\n"
    assert client.get("/results/").status_code == 302
    log_in(client, "a.sokolova", password)
    (ivan,) = rows.query("select id from users where username = 'petrov.ivan'")
    address = f"/results/{ivan['id']}/"
    assert "Иван Петров" in client.get(address).text
    assert client.get("/admin/").status_code == (200 if role == "administrator" else 403)

    revoked = flask("users", "revoke", "a.sokolova")

    assert revoked.output == "a.sokolova has no role now.\n"
    log_in(client, "a.sokolova", password)
    assert "Иван Петров" not in client.get(address).text
    assert client.get("/admin/").status_code == 403


def test_an_unknown_role_is_refused(flask: Command, password: str, rows: Rows) -> None:
    result = flask("users", "grant", "a.sokolova", "--role", "root")

    assert result.exit_code == 2
    assert "'root' is not one of 'auditor', 'administrator'" in result.output
    assert rows.of("users")[0]["role"] == "user"


def test_the_last_administrator_cannot_be_blocked(flask: Command, rows: Rows) -> None:
    flask("users", "create-admin", "--username", "boss", "--email", "boss@example.org")

    result = flask("users", "block", "boss")

    assert (result.exit_code, result.output[:7]) == (1, "Error: ")
    assert re.search("последний администратор|last administrator", result.output)
    assert rows.of("users")[0]["is_active"]


def test_an_api_key_can_be_created_listed_used_and_revoked(
    flask: Command, client: FlaskClient, app: Flask, rows: Rows
) -> None:
    key = flask("api-keys", "create", " shop front ").output.strip()
    listing_before_use = flask("api-keys", "list").output
    opened = client.get("/api/v1/stats/", headers={"Authorization": f"Bearer {key}"}).status_code
    [row] = rows.of("api_keys")

    revoked = flask("api-keys", "revoke", str(row["id"]))

    assert re.fullmatch(r"useradd_[a-z2-9]{26}", key)
    assert listing_before_use == f"{row['id']}  {key[:11]}…  Valid    never used        shop front\n"
    assert (opened, row["created_by"]) == (200, None)
    assert (revoked.exit_code, revoked.output) == (0, "The key “shop front” is revoked.\n")
    get_runtime(app).activity.flush()
    last_use = r"20\d\d-\d\d-\d\d \d\d:\d\d"
    line = f"{row['id']}  {key[:11]}…  Revoked  {last_use}  shop front\n"
    assert re.fullmatch(line, flask("api-keys", "list").output)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("create", ""), 2),
        (("create", "x" * 101), 2),
        (("create", "a\u202eb"), 2),
        (("create",), 2),
        (("revoke", "none"), 2),
        (("revoke", "0190b0e5-0000-7000-8000-000000000000"), 1),
    ],
)
def test_an_invalid_value_is_refused_with_a_message(
    flask: Command, rows: Rows, arguments: tuple[str, ...], code: int
) -> None:
    result = flask("api-keys", *arguments)

    assert result.exit_code == code
    assert "Error: " in result.output
    assert "Traceback" not in result.output
    assert rows.of("api_keys") == []


@pytest.mark.parametrize("arguments", [("users", "block", "x"), ("api-keys", "create", "x"), ("api-keys", "list")])
def test_an_outage_of_postgresql_is_reported(
    flask: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(Breaker, "is_open", True)

    result = flask(*arguments)

    assert (result.exit_code, result.output[:7]) == (1, "Error: ")


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("users", "block", "nobody"), "Ошибка: Нет пользователя с логином «nobody».\n"),
        (("users", "create-admin", "--username", "a b", "--email", "a@example.org"), "пробелов. Пример: petrov.ivan."),
        (("users", "create-admin", "--username", "boss", "--email", "boss@example.org"), "Страница входа: http"),
        (("api-keys", "create", "\u202e"), "символ"),
        (("spool", "status"), "Запросов на диске: 0 (байт: 0), в карантине: 0\n"),
        (("attempts", "export", "all.doc"), "Имя файла должно оканчиваться на .txt или .csv или .xlsx."),
    ],
)
def test_a_command_speaks_the_language_of_the_terminal(
    flask: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: str
) -> None:
    monkeypatch.setenv("LC_ALL", "ru_RU.UTF-8")

    assert expected in flask(*arguments).output
