"""`flask users create-admin`: creating the first administrator on the server."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from click.testing import Result
from flask import Flask
from flask.cli import FlaskGroup
from flask.testing import FlaskClient

from config import Config
from project.cli.greeting import login_address
from tests.builders import ANNA, log_in, useradd
from tests.conftest import Rows

Command = Callable[..., Result]
BOSS = ("--username", "boss", "--email", "Boss@Example.org", "--name", "Ольга Босс")


@pytest.fixture
def create_admin(app: Flask, client: FlaskClient) -> Command:
    """Runs the command on empty tables like the program `flask`."""

    def run(*options: str, answers: str | None = None) -> Result:
        flask = FlaskGroup(create_app=lambda: app, load_dotenv=False)
        return app.test_cli_runner().invoke(flask, ["users", "create-admin", *options], input=answers)

    return run


def test_the_created_administrator_can_log_in(create_admin: Command, client: FlaskClient, rows: Rows) -> None:
    result = create_admin(*BOSS)

    printed = re.fullmatch(
        r"Login:    (\S+)\nPassword: (\S+)\nLog in at http://127\.0\.0\.1:8000/login/\n", result.output
    )
    assert printed, result.output
    assert result.exit_code == 0
    assert [(row["username"], row["is_admin"], row["email"]) for row in rows.of("users")] == [
        ("boss", True, "Boss@example.org")
    ]
    assert log_in(client, printed[1], printed[2]).location == "/results/"


@pytest.mark.parametrize(
    ("trusted", "address"),
    [
        ("users.example.org", "https://users.example.org/login/"),
        ("Users.Example.org:8443", "https://users.example.org/login/"),
        ("[2001:db8::1]", "https://[2001:db8::1]/login/"),
        ("[2001:db8::1]:8443", "https://[2001:db8::1]/login/"),
        ("2001:db8::1", "https://[2001:db8::1]/login/"),
    ],
)
def test_the_printed_address_is_valid_however_the_trusted_host_is_written(
    config: Config, trusted: str, address: str
) -> None:
    assert login_address(replace(config, https_only=True, trusted_hosts=(".example.com", trusted))) == address


def test_a_user_created_by_the_api_is_not_an_administrator(client: FlaskClient, rows: Rows) -> None:
    useradd(client, ANNA)

    assert rows.of("users")[0]["is_admin"] is False


def test_the_attempt_is_recorded_with_masked_contacts(create_admin: Command, rows: Rows) -> None:
    create_admin(*BOSS, "--phone", "8 912 555-01-41")

    [attempt] = rows.attempts()
    assert (attempt["status"], attempt["code"], attempt["method"]) == (201, "created", "CLI")
    assert (attempt["username"], attempt["sent"]["name"]) == ("boss", "Ольга Босс")
    assert (attempt["phone_masked"], attempt["email_masked"]) == ("+7 912 •••-••-41", "B•••@example.org")
    assert "5550141" not in str(attempt)


def test_missing_values_are_prompted_for(create_admin: Command, rows: Rows) -> None:
    result = create_admin(answers="boss\nno address\nboss@example.org\n")

    assert result.exit_code == 0
    assert "Password: " in result.output
    [user] = rows.of("users")
    assert (user["username"], user["name"], user["email"]) == ("boss", "boss", "boss@example.org")


@pytest.mark.parametrize(
    ("options", "option"),
    [
        (("--username", "два слова", "--email", "boss@example.org"), "--username"),
        (("--username", "bоss", "--email", "boss@example.org"), "--username"),
        (("--username", "boss", "--email", "boss"), "--email"),
        (("--username", "boss", "--phone", "112"), "--phone"),
        (("--username", "boss", "--email", "boss@example.org", "--name", "a\u202eb"), "--name"),
        (("--username", "boss", "--email", "boss@example.org", "--name", "\udcff"), "--name"),
    ],
)
def test_an_invalid_value_is_refused_with_a_message_and_creates_nobody(
    create_admin: Command, rows: Rows, options: tuple[str, ...], option: str
) -> None:
    result = create_admin(*options)

    assert result.exit_code == 2
    assert f"Invalid value for '{option}': " in result.output
    assert "Traceback" not in result.output
    assert re.search(r"[.!]\s*$", result.output)
    assert rows.of("users") == rows.attempts() == []


def test_a_login_that_reads_as_another_email_is_refused(create_admin: Command, rows: Rows) -> None:
    result = create_admin("--username", "anna@example.org", "--email", "boss@example.org")

    assert (result.exit_code, rows.of("users")) == (2, [])


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--username", "A.Sokolova", "--email", "boss@example.org"), "username_taken"),
        (("--username", "boss", "--phone", "+7 912 555 01 41"), "phone_taken"),
        (("--username", "boss", "--email", "anna@example.org"), "email_taken"),
    ],
)
def test_a_conflict_with_an_existing_user_is_reported_and_recorded(
    create_admin: Command, client: FlaskClient, rows: Rows, options: tuple[str, ...], code: str
) -> None:
    useradd(client, ANNA)

    result = create_admin(*options)

    assert (result.exit_code, result.output.startswith("Error: ")) == (1, True)
    assert "Password" not in result.output
    assert rows.outcomes() == [(201, "created"), (409, code)]
    assert len(rows.of("users")) == 1
