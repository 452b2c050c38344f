"""`flask users import`: creating users from a file."""

import csv
import io
import json
import re
import stat
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from flask.cli import FlaskGroup
from flask.testing import FlaskClient
from openpyxl import Workbook

from project.cli import imports
from project.domain.errors import DatabaseUnavailableError
from project.services import registration
from tests.builders import ANNA, IVAN, log_in, useradd
from tests.conftest import Rows

Command = Callable[..., Result]
BAD = {"name": "Пётр", "username": "пётр", "phone": "12", "birth_date": "31.02.1990"}


@pytest.fixture
def run(app: Flask, client: FlaskClient, tmp_path: Path) -> Command:
    """Imports a file with this content and extension, on empty tables."""

    def run(content: str | bytes | Path, ending: str = ".ndjson", errors: str = "errors.csv") -> Result:
        file = tmp_path / f"people{ending}"
        if not isinstance(content, Path):
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        flask = FlaskGroup(create_app=lambda: app, load_dotenv=False)
        options = ["--errors", str(tmp_path / errors), "--credentials", str(tmp_path / "passwords.csv")]
        return app.test_cli_runner().invoke(flask, ["users", "import", str(file), *options])

    return run


def ndjson(*bodies: dict[str, str]) -> str:
    return "".join(json.dumps(body, ensure_ascii=False) + "\n" for body in bodies)


def table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_every_line_creates_a_user_who_can_log_in_and_an_attempt(
    run: Command, rows: Rows, client: FlaskClient, tmp_path: Path
) -> None:
    result = run(ndjson(ANNA, IVAN))

    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "2 created, 0 replayed, 0 refused")
    assert [row["username"] for row in rows.of("users", "username")] == ["a.sokolova", "petrov.ivan"]
    assert [(row["status"], row["method"]) for row in rows.attempts()] == [(201, "CLI"), (201, "CLI")]
    head, first, second = table(tmp_path / "passwords.csv")
    assert (head, first[:2], second[:2]) == (["line", "login", "password"], ["1", "a.sokolova"], ["2", "petrov.ivan"])
    assert log_in(client, *second[1:]).location == "/results/"


class Terminal(io.StringIO):
    """A terminal that records its output."""

    def isatty(self) -> bool:
        return True


def test_progress_is_one_terminal_line_that_ends_with_the_totals(
    app: Flask, client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, terminal = tmp_path / "people.ndjson", Terminal()
    file.write_text(ndjson(ANNA, BAD))
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "70")
    options = ["--errors", str(tmp_path / "errors.csv"), "--credentials", str(tmp_path / "passwords.csv")]

    with app.app_context():
        exit_status = imports.import_users.main([str(file), *options], standalone_mode=False)

    shown = re.split(r"\r|\n", re.sub(r"\x1b\[\?25[lh]", "", terminal.getvalue()))
    steps = [line for line in shown if line.startswith("Importing  [")]
    assert exit_status == 1
    assert steps[-1].rstrip().endswith("100%  1 created, 0 replayed, 1 refused")
    assert max(map(len, steps)) <= 70


def test_passwords_are_written_only_to_a_file_readable_by_its_owner(
    run: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = tmp_path / "passwords.csv"
    credentials.touch(0o644)

    result = run(ndjson(ANNA))

    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    password = table(credentials)[1][2]
    assert password not in result.output + caplog.text + (tmp_path / "errors.csv").read_text()


def test_refusals_are_reported_field_by_field_and_recorded(run: Command, rows: Rows, tmp_path: Path) -> None:
    result = run(ndjson(BAD, ANNA) + '{"name": \n\n' + ndjson(ANNA))

    assert (result.exit_code, "1 created, 0 replayed, 3 refused" in result.output) == (1, True)
    head, *lines = table(tmp_path / "errors.csv")
    assert head == ["line", "field", "code", "message"]
    assert [line[:3] for line in lines] == [
        ["1", "phone", "invalid_phone"],
        ["1", "birth_date", "invalid_date"],
        ["3", "", "malformed_json"],
        ["5", "username", "username_taken"],
        ["5", "phone", "phone_taken"],
        ["5", "email", "email_taken"],
    ]
    assert all(line[3] for line in lines)
    assert rows.outcomes() == [
        (422, "invalid_phone"),
        (201, "created"),
        (400, "malformed_json"),
        (409, "username_taken"),
    ]


def test_the_report_can_be_ndjson(run: Command, tmp_path: Path) -> None:
    run(ndjson(BAD), errors="errors.ndjson")

    first = json.loads((tmp_path / "errors.ndjson").read_text().splitlines()[0])
    assert (first["line"], first["field"], first["code"]) == (1, "phone", "invalid_phone")


def test_a_second_run_replays_users_and_returns_the_same_passwords(run: Command, rows: Rows, tmp_path: Path) -> None:
    run(ndjson(ANNA, BAD))
    again = run(ndjson(ANNA, IVAN))

    assert (again.exit_code, "1 created, 1 replayed, 0 refused" in again.output) == (0, True)
    assert len(rows.of("users")) == 2
    _, anna, same, _ = table(tmp_path / "passwords.csv")
    assert anna == same


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "head", [["name", "USERNAME", "phone", "birth_date"], ["Имя", "Логин", "Телефон", "Дата рождения"]]
)
def test_csv_is_read_with_common_delimiters_and_headers(
    run: Command, rows: Rows, delimiter: str, head: list[str]
) -> None:
    row = ['"Петров; Иван, мл."', "petrov.ivan", "8 999 123-45-67", "31.12.1990"]

    result = run("\ufeff" + "\r\n".join(map(delimiter.join, (head, row, ["", "", "", ""]))) + "\r\n", ".csv")

    assert (result.exit_code, "1 created, 0 replayed, 0 refused" in result.output) == (0, True)
    [user] = rows.of("users")
    assert (user["name"], user["phone"]) == ("Петров; Иван, мл.", "+79991234567")
    assert user["birth_date"] == date(1990, 12, 31)


def test_a_report_has_the_line_number_where_a_csv_row_starts(run: Command, tmp_path: Path) -> None:
    run('name,username,phone,email\n"A\nB",a.b,,\nC,c,,c@example.org,surplus\n', ".csv")

    assert [line[:3] for line in table(tmp_path / "errors.csv")[1:]] == [
        ["2", "name", "invalid_characters"],
        ["2", "phone", "contact_required"],
        ["4", "column 5", "unknown_field"],
    ]


def test_dates_and_numeric_phones_are_read_from_workbooks(run: Command, rows: Rows, tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.worksheets[0]
    for row in (["имя", "логин", "телефон", "дата рождения"], ["Иван", "ivan", 79991234567, datetime(1990, 12, 31)]):  # noqa: DTZ001 - Excel has no time zones
        sheet.append(row)
    book.save(tmp_path / "people.xlsx")

    result = run(tmp_path, ".xlsx")

    assert result.exit_code == 0, result.output
    [user] = rows.of("users")
    assert (user["phone"], user["birth_date"]) == ("+79991234567", date(1990, 12, 31))
    assert table(tmp_path / "passwords.csv")[1][:2] == ["2", "ivan"]


@pytest.mark.parametrize(
    "heads", ["ФИО;Логин;Мобильный телефон;E-mail;Дата рождения", "fullName;user_name;Phone Number;mail;DOB"]
)
def test_heads_are_known_by_the_same_synonyms_as_the_hints_of_the_api(run: Command, rows: Rows, heads: str) -> None:
    result = run(f"{heads}\nИван;ivan;+79991234567;ivan@example.org;31.12.1990\n", ".csv")

    assert result.exit_code == 0, result.output
    [user] = rows.of("users")
    assert (user["name"], user["username"], user["phone"]) == ("Иван", "ivan", "+79991234567")
    assert (user["email"], user["birth_date"]) == ("ivan@example.org", date(1990, 12, 31))


@pytest.mark.parametrize(
    ("content", "ending", "message"),
    [
        ("name,username\nИван,ivan\n".encode("cp1251"), ".csv", "windows-1251"),
        ("", ".ndjson", "no lines"),
        ("name,username,age\n", ".csv", "Unknown columns: age"),
        ("Иван,ivan\n", ".csv", "name/имя"),
        ("name,username,имя\n", ".csv", "twice"),
        ("no workbook", ".xlsx", "not an Excel workbook"),
        ("", ".txt", "must end in"),
    ],
)
def test_an_unusable_file_creates_nobody_and_the_message_explains_why(
    run: Command, rows: Rows, content: str | bytes, ending: str, message: str
) -> None:
    result = run(content, ending)

    assert (result.exit_code, message in result.output) == (2, True), result.output
    assert "Traceback" not in result.output
    assert rows.of("users") == rows.attempts() == []


def test_an_overlong_line_is_refused_and_the_next_one_is_read(run: Command, tmp_path: Path) -> None:
    result = run(json.dumps(ANNA | {"name": "a" * 100_000}) + "\n" + ndjson(IVAN))

    assert "1 created, 0 replayed, 1 refused" in result.output
    assert table(tmp_path / "errors.csv")[1][:3] == ["1", "", "body_too_large"]


def test_the_import_waits_while_postgresql_is_unavailable(
    run: Command, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    register, errors = registration.register, [DatabaseUnavailableError()]

    def fail_once(*args: object) -> object:
        if errors:
            raise errors.pop()
        return register(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(registration, "register", fail_once)
    monkeypatch.setattr(imports, "PAUSES_S", (0,))

    result = run(ndjson(ANNA))

    assert (result.exit_code, "PostgreSQL does not answer" in result.output) == (0, True)
    assert rows.outcomes() == [(201, "created")]


def test_a_long_outage_aborts_the_import_which_can_be_continued_later(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise DatabaseUnavailableError

    with monkeypatch.context() as outage:
        outage.setattr(registration, "register", fail)
        outage.setattr(imports, "WAIT_S", 0)
        first = run(ndjson(ANNA))

    assert (first.exit_code, "Run the same command again" in first.output) == (1, True)
    assert run(ndjson(ANNA)).exit_code == 0


def test_a_user_with_a_changed_password_is_not_a_refusal(run: Command, rows: Rows, app: Flask) -> None:
    run(ndjson(ANNA))
    group = FlaskGroup(create_app=lambda: app, load_dotenv=False)
    app.test_cli_runner().invoke(group, ["users", "reset-password", "a.sokolova"])

    again = run(ndjson(ANNA))

    assert (again.exit_code, "0 created, 1 replayed, 0 refused" in again.output) == (0, True)


def test_the_three_files_must_be_different(run: Command, client: FlaskClient) -> None:
    useradd(client, IVAN)

    result = run(ndjson(ANNA), ".csv", errors="people.csv")

    assert (result.exit_code, "three different files" in result.output) == (2, True)
