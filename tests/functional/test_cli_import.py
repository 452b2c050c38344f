"""`flask users import`: creating users from a file."""

import csv
import io
import json
import re
import stat
from collections.abc import Callable, Sequence
from datetime import date, datetime
from pathlib import Path
from zipfile import ZipFile

import pytest
from click.testing import Result
from flask import Flask
from flask.cli import FlaskGroup
from flask.testing import FlaskClient
from openpyxl import Workbook, load_workbook

from project.cli import imports
from project.domain.errors import DatabaseUnavailableError
from project.importers.rows import MAX_LINE_LENGTH
from project.services import registration
from tests.builders import ANNA, IVAN, log_in, useradd
from tests.conftest import Rows

Command = Callable[..., Result]
BAD = {"name": "Пётр", "username": "пётр", "phone": "12", "birth_date": "31.02.1990"}
FIX = "What to fix"


@pytest.fixture
def run(app: Flask, client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Imports a file with this content and extension, on empty tables, in an English terminal."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")

    def run(content: str | bytes | Path, ending: str = ".ndjson", *options: str, errors: str = "errors.csv") -> Result:
        file = tmp_path / f"people{ending}"
        if not isinstance(content, Path):
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        flask = FlaskGroup(create_app=lambda: app, load_dotenv=False)
        files = ["--errors", str(tmp_path / errors), "--credentials", str(tmp_path / "passwords.csv")]
        return app.test_cli_runner().invoke(flask, ["users", "import", str(file), *files, *options])

    return run


def ndjson(*bodies: dict[str, str]) -> str:
    return "".join(json.dumps(body, ensure_ascii=False) + "\n" for body in bodies)


def people(*numbers: int) -> list[str]:
    return [f"Иван,user{number},+79{number:09},user{number}@example.org" for number in numbers]


def csv_file(*rows: str, headers: str = "name,username,phone,email") -> str:
    return "\n".join((headers, *rows)) + "\n"


def workbook(*rows: Sequence[object]) -> bytes:
    book, file = Workbook(), io.BytesIO()
    for row in rows:
        book.worksheets[0].append(list(row))
    book.save(file)
    return file.getvalue()


def table(path: Path, delimiter: str = ",") -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file, delimiter=delimiter))


def last_line(result: Result) -> str:
    lines: list[str] = [line for line in result.output.splitlines() if re.search(r" rows?: |Строк", line)]
    return lines[-1]


def test_every_line_creates_a_user_who_can_log_in_and_an_attempt(
    run: Command, rows: Rows, client: FlaskClient, tmp_path: Path
) -> None:
    result = run(ndjson(ANNA, IVAN))

    assert (result.exit_code, last_line(result)) == (0, "2 rows: 2 created, 0 existing, 0 refused"), result.output
    assert [row["username"] for row in rows.of("users", "username")] == ["a.sokolova", "petrov.ivan"]
    assert [(row["status"], row["method"]) for row in rows.attempts()] == [(201, "CLI"), (201, "CLI")]
    head, first, second = table(tmp_path / "passwords.csv")
    assert head == ["name", "login", "password", "phone", "e-mail"]
    assert (first[:2], first[4]) == ([ANNA["name"], "a.sokolova"], "Anna@example.org")
    assert (second[:2], second[3]) == ([IVAN["name"], "petrov.ivan"], "+79991234567")
    assert log_in(client, *second[1:3]).location == "/results/"


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
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    options = ["--errors", str(tmp_path / "errors.csv"), "--credentials", str(tmp_path / "passwords.csv")]

    with app.app_context():
        exit_status = imports.import_users.main([str(file), *options], standalone_mode=False)

    shown = re.split(r"\r|\n", re.sub(r"\x1b\[\?25[lh]", "", terminal.getvalue()))
    steps = [line for line in shown if line.startswith("Importing  [")]
    assert exit_status == 1
    assert steps[-1].rstrip().endswith("100%  2 rows: 1 created, 0 existing, 1 refused")
    assert max(map(len, steps)) <= 80


def test_passwords_are_written_only_to_a_file_readable_by_its_owner(
    run: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = tmp_path / "passwords.csv"
    credentials.touch(0o644)

    result = run(ndjson(ANNA))

    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    password = table(credentials)[1][2]
    assert password not in result.output + caplog.text + (tmp_path / "errors.csv").read_text()


def test_refused_rows_are_kept_as_they_stand_with_every_error_and_recorded(
    run: Command, rows: Rows, tmp_path: Path
) -> None:
    content = csv_file('"Петров; мл.",пётр,12,31.02.1990,x', *people(1), headers="ФИО,Логин,Тел.,Дата рождения,Отдел")

    result = run(content.replace("user1@example.org", "01.01.1990"), ".csv", "--ignore-unknown")

    assert (result.exit_code, last_line(result)) == (1, "2 rows: 1 created, 0 existing, 1 refused"), result.output
    assert "Ignored columns: Отдел." in result.output
    head, line = table(tmp_path / "errors.csv")
    assert head == ["ФИО", "Логин", "Тел.", "Дата рождения", "Отдел", FIX]
    assert line[:5] == ["Петров; мл.", "пётр", "12", "31.02.1990", "x"]
    assert re.match(r"Row 2\. Тел\.: .+ Дата рождения: .+", line[5])
    assert sorted(rows.outcomes()) == [(201, "created"), (422, "invalid_phone")]


@pytest.mark.parametrize("errors", ["errors.csv", "errors.xlsx"])
@pytest.mark.parametrize("options", [(), ("--excel",)])
def test_the_file_of_refused_rows_is_corrected_and_imported_again(
    run: Command, rows: Rows, tmp_path: Path, errors: str, options: tuple[str, ...]
) -> None:
    run(csv_file(*people(1), "=1+1,user2,+7916,", "Анна,user3,-,"), ".csv", *options, errors=errors)
    refused = tmp_path / errors
    if refused.suffix == ".csv":
        corrected = refused.read_text().replace("+7916", "+79160000002").replace("-", "+79160000003").encode()
    else:
        book, file = load_workbook(refused), io.BytesIO()
        book.worksheets[0]["C2"], book.worksheets[0]["C3"] = "+79160000002", "+79160000003"
        book.save(file)
        corrected = file.getvalue()

    again = run(corrected, refused.suffix, *options, errors=f"again{refused.suffix}")

    assert (again.exit_code, last_line(again)) == (0, "2 rows: 2 created, 0 existing, 0 refused"), again.output
    assert [user["username"] for user in rows.of("users", "username")] == ["user1", "user2", "user3"]
    assert [user["name"] for user in rows.of("users", "username")][1] == "=1+1"


@pytest.mark.parametrize("ending", [".csv", ".xlsx"])
def test_blanks_at_the_edges_of_refused_cells_are_kept(run: Command, tmp_path: Path, ending: str) -> None:
    headers, row = ["name", "username", "phone"], ["  Анна ", " user1", "+7916 "]
    content = csv_file(",".join(row), headers=",".join(headers)) if ending == ".csv" else workbook(headers, row)

    run(content, ending, errors="errors.xlsx")

    sheet = load_workbook(tmp_path / "errors.xlsx").worksheets[0]
    assert [cell.value for cell in sheet[2]][:3] == row
    with ZipFile(tmp_path / "errors.xlsx") as archive:
        xml = archive.read("xl/worksheets/sheet1.xml").decode()
    assert [text for text in row if f'<t xml:space="preserve">{text}</t>' not in xml] == []


def test_of_several_sheets_the_first_visible_one_is_read_and_all_are_named(run: Command, rows: Rows) -> None:
    book, file = Workbook(), io.BytesIO()
    for title in ("Архив", "Новые", "Прочие"):
        book.create_sheet(title).append(["name", "username", "phone"])
    book["Новые"].append(["Анна", "user1", "+79160000001"])
    book.remove(book.worksheets[0])
    book["Архив"].sheet_state = "hidden"
    book.save(file)

    result = run(file.getvalue(), ".xlsx")

    assert [user["username"] for user in rows.of("users")] == ["user1"], result.output
    assert "The workbook has several sheets: only “Новые” is read, not Прочие." in result.output


def test_a_row_of_blanks_is_no_row_of_a_workbook(run: Command) -> None:
    result = run(
        workbook([" name ", "username", "phone"], ["Анна", "user1", "+79160000001"], [" ", "\t", " "]), ".xlsx"
    )

    assert last_line(result) == "1 row: 1 created, 0 existing, 0 refused"


def test_a_broken_line_of_json_is_refused_alone_and_blank_lines_are_no_rows(run: Command, tmp_path: Path) -> None:
    result = run(ndjson(ANNA) + '{"name": \n\n' + ndjson(IVAN))

    assert (result.exit_code, last_line(result)) == (1, "3 rows: 2 created, 0 existing, 1 refused")
    assert table(tmp_path / "errors.csv")[1][-1].startswith("Row 2. ")


def test_an_unchanged_file_creates_nobody_again_and_each_credential_is_written_once(
    run: Command, rows: Rows, tmp_path: Path
) -> None:
    run(ndjson(ANNA, BAD))
    before = (tmp_path / "passwords.csv").read_text()

    again = run(ndjson(ANNA, BAD))

    assert (again.exit_code, last_line(again)) == (1, "2 rows: 0 created, 1 existing, 1 refused")
    assert len(rows.of("users")) == 1
    assert (tmp_path / "passwords.csv").read_text() == before


def test_the_key_of_a_row_is_its_content_wherever_it_stands(run: Command, rows: Rows, tmp_path: Path) -> None:
    run(csv_file(*people(1, 2, 3, 4)), ".csv")

    moved = [*people(9), *people(4), *people(1), "Иван,user3,8 (900) 000-00-03,user3@example.org"]
    again = run(csv_file(*moved), ".csv")

    assert (again.exit_code, last_line(again)) == (0, "4 rows: 1 created, 3 existing, 0 refused"), again.output
    assert len(rows.of("users")) == 5
    assert [line[1] for line in table(tmp_path / "passwords.csv")[1:]] == ["user1", "user2", "user3", "user4", "user9"]


def test_identical_rows_are_one_user(run: Command, rows: Rows, tmp_path: Path) -> None:
    result = run(csv_file(*people(1, 1, 2, 1)), ".csv")

    assert (result.exit_code, last_line(result)) == (0, "4 rows: 2 created, 2 existing, 0 refused")
    assert len(rows.of("users")) == 2
    assert [line[1] for line in table(tmp_path / "passwords.csv")[1:]] == ["user1", "user2"]


def test_a_line_of_credentials_that_a_killed_process_left_incomplete_is_written_again(
    run: Command, tmp_path: Path
) -> None:
    run(csv_file(*people(1, 2)), ".csv")
    credentials = tmp_path / "passwords.csv"
    whole = credentials.read_bytes()
    credentials.write_bytes(whole[:-20])

    run(csv_file(*people(1, 2)), ".csv")

    assert credentials.read_bytes() == whole


def test_credentials_are_not_appended_to_another_file(run: Command, rows: Rows, tmp_path: Path) -> None:
    (tmp_path / "passwords.csv").write_text("line,login,password\n1,a,b\n")

    result = run(ndjson(ANNA))

    assert (result.exit_code, "has other columns" in result.output) == (2, True)
    assert (rows.of("users"), (tmp_path / "passwords.csv").read_text()) == ([], "line,login,password\n1,a,b\n")


def test_a_dry_run_reports_what_is_wrong_and_creates_nobody(run: Command, rows: Rows, tmp_path: Path) -> None:
    result = run(ndjson(ANNA, BAD), ".ndjson", "--dry-run")

    assert (result.exit_code, last_line(result)) == (1, "2 rows: 1 correct, 1 refused")
    assert len(table(tmp_path / "errors.csv")) == 2
    assert rows.of("users") == rows.attempts() == []
    assert not (tmp_path / "passwords.csv").exists()


def test_files_for_excel_have_semicolons_and_a_byte_order_mark(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(ndjson(ANNA, BAD), ".ndjson", "--excel")
    english = [(tmp_path / name).read_bytes() for name in ("passwords.csv", "errors.csv")]
    (tmp_path / "passwords.csv").unlink()
    monkeypatch.setenv("LC_ALL", "ru_RU.UTF-8")

    result = run(ndjson(ANNA, BAD))

    russian = [(tmp_path / name).read_bytes() for name in ("passwords.csv", "errors.csv")]
    assert all(content.startswith(b"\xef\xbb\xbf") and b";" in content.splitlines()[0] for content in english + russian)
    assert english[0].splitlines()[0] == russian[0].splitlines()[0]
    assert table(tmp_path / "errors.csv", ";")[0][-1] == "Что исправить"
    assert "2 строки: " in result.output or "Строк: 2" in result.output


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "head", [["name", "USERNAME", "phone", "birth_date"], ["Имя", "Логин", "Телефон", "Дата рождения"]]
)
def test_csv_is_read_with_common_delimiters_and_headers(
    run: Command, rows: Rows, delimiter: str, head: list[str]
) -> None:
    row = ['"Петров; Иван, мл."', "petrov.ivan", "8 999 123-45-67", "31.12.1990"]

    result = run("\ufeff" + "\r\n".join(map(delimiter.join, (head, row, ["", "", "", ""]))) + "\r\n", ".csv")

    assert (result.exit_code, last_line(result)) == (0, "1 row: 1 created, 0 existing, 0 refused")
    [user] = rows.of("users")
    assert (user["name"], user["phone"]) == ("Петров; Иван, мл.", "+79991234567")
    assert user["birth_date"] == date(1990, 12, 31)


@pytest.mark.parametrize("ending", [".csv", ".xlsx"])
def test_a_title_above_the_heads_is_skipped(run: Command, rows: Rows, ending: str) -> None:
    headers, row = ["Имя", "Логин", "Телефон"], ["Иван", "ivan", "+79991234567"]
    text = f"Сотрудники, осень;;\n\n{';'.join(headers)}\n{';'.join(row)}\n"
    file = text if ending == ".csv" else workbook(["Сотрудники"], [], headers, row)

    result = run(file, ending)

    assert (result.exit_code, [user["name"] for user in rows.of("users")]) == (0, ["Иван"]), result.output


def test_columns_can_be_mapped_and_unknown_ones_are_named(run: Command, rows: Rows) -> None:
    content = csv_file("Иван,ivan,+79991234567,5", headers="Работник,Логин,Связь,Разряд")

    refused = run(content, ".csv", "--map", "Работник=name")
    result = run(content, ".csv", "--map", "Работник=name", "--map", "Связь=phone", "--ignore-unknown")

    assert (refused.exit_code, "Unknown columns: Связь, Разряд." in refused.output) == (2, True), refused.output
    assert (result.exit_code, result.output.count("Разряд")) == (0, 1)
    assert [user["phone"] for user in rows.of("users")] == ["+79991234567"]


@pytest.mark.parametrize("value", ["phone", "Тел.=fone", "=phone"])
def test_a_wrong_mapping_is_refused_with_the_names_of_the_fields(run: Command, value: str) -> None:
    result = run(ndjson(ANNA), ".ndjson", "--map", value)

    assert (result.exit_code, "the fields are name, username, phone" in result.output) == (2, True)


def test_dates_and_numeric_phones_are_read_from_workbooks(run: Command, rows: Rows, tmp_path: Path) -> None:
    born = datetime(1990, 12, 31)  # noqa: DTZ001 - Excel has no time zones

    result = run(workbook(["имя", "логин", "телефон", "дата рождения"], ["Иван", "ivan", 79991234567.0, born]), ".xlsx")

    assert result.exit_code == 0, result.output
    [user] = rows.of("users")
    assert (user["phone"], user["birth_date"]) == ("+79991234567", date(1990, 12, 31))


@pytest.mark.parametrize(
    "headers", ["ФИО;Логин;Мобильный телефон;E-mail;Дата рождения", "fullName;user_name;Phone Number;mail;DOB"]
)
def test_heads_are_known_by_the_same_synonyms_as_the_hints_of_the_api(run: Command, rows: Rows, headers: str) -> None:
    result = run(f"{headers}\nИван;ivan;+79991234567;ivan@example.org;31.12.1990\n", ".csv")

    assert result.exit_code == 0, result.output
    [user] = rows.of("users")
    assert (user["name"], user["username"], user["phone"]) == ("Иван", "ivan", "+79991234567")
    assert (user["email"], user["birth_date"]) == ("ivan@example.org", date(1990, 12, 31))


@pytest.mark.parametrize(
    ("content", "ending", "message"),
    [
        ("name,username\nИван Петров,ivan\n".encode("cp1251"), ".csv", "looks like windows-1251"),
        ("", ".ndjson", "no rows"),
        (
            f"\n[\n{json.dumps(ANNA)},\n{json.dumps(IVAN)}\n]\n",
            ".ndjson",
            "The file is a JSON array. Write one user a line",
        ),
        *(
            (content, ".ndjson", "The users are a list inside the field “users”. Write one user a line")
            for content in (
                json.dumps({"users": [ANNA]}),
                json.dumps({"ok": True, "users": [ANNA, IVAN]}) + "\n",
                '\ufeff{"users": [\n' + json.dumps(ANNA) + ",\n" + json.dumps(IVAN) + "\n]}\n",
                json.dumps({"users": [ANNA, IVAN]}, indent=2),
                json.dumps({"users": [ANNA] * 100}),
            )
        ),
        ("name,username\n", ".csv", "no rows"),
        ("", ".csv", "The file is empty"),
        ("name,username,age\n", ".csv", "Unknown columns: age"),
        ("name,username,emial\n", ".csv", "Unknown columns: emial (email?)."),
        ("имя;фамилия;логин\n", ".csv", "Unknown columns: фамилия (name?)."),
        ("Имя;Телефон\nИван;+79991234567\n", ".csv", "The row that names the columns has no: username."),
        ("name|phone\n", ".csv", "The row that names the columns has no: username."),
        ("Иван,iv1,+79991234567\n", ".csv", "The first row must name the columns."),
        ("Иван,ivan\n", ".csv", "name/имя"),
        ("name,username,имя\n", ".csv", "Two columns mean the same field name: “name” and “имя”."),
        ("name,username,Тел.,phone\n", ".csv", "Two columns mean the same field phone: “Тел.” and “phone”."),
        ("nmae,username,phone\n", ".csv", "Unknown columns: nmae (name?)."),
        ("no workbook", ".xlsx", "not an Excel workbook"),
        (b"PK\x03\x04", ".csv", "ends in .xlsx"),
        ("", ".txt", "must end in one of: .csv, .xlsx, .ndjson"),
        ("", ".xls", "old Excel"),
    ],
)
def test_an_unusable_file_creates_nobody_and_the_message_explains_why(
    run: Command, rows: Rows, content: str | bytes, ending: str, message: str
) -> None:
    result = run(content, ending)

    assert (result.exit_code, message in result.output) == (2, True), result.output
    assert "Traceback" not in result.output
    assert rows.of("users") == rows.attempts() == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Петров, Иван,ivan,+79991234567", "column 4: The row has 4 cells for 3 columns. If a value contains the "
         "separator “,”, put it into double quotes: \"Petrov, Ivan\"."),
        ("Иван,ivan,+79991234567,,x", "column 4: The row has 5 cells for 3 columns."),
        ("Иван;мл.,ivan,+79991234567", None),
        ("Иван,ivan,+79991234567,,", None),
    ],
)  # fmt: skip
def test_a_row_with_more_cells_than_headers_is_refused_for_that_only(
    run: Command, tmp_path: Path, line: str, message: str | None
) -> None:
    result = run(csv_file(line, headers="имя,логин,телефон"), ".csv")

    assert result.exit_code == bool(message), result.output
    if message:
        assert message in table(tmp_path / "errors.csv")[1][3]
        assert "телефон:" not in table(tmp_path / "errors.csv")[1][3]


def test_a_cell_in_a_column_without_a_header_is_refused_together_with_other_errors(
    run: Command, tmp_path: Path
) -> None:
    run(workbook(["имя", "логин", "телефон"], ["Иван", "ivan", "1", "лишнее"]), ".xlsx")

    [_, row] = table(tmp_path / "errors.csv")
    assert "column 4: The cell has a value, but its column has no header." in row[3]
    assert "телефон: The number is too short" in row[3]


def test_errors_of_lines_name_the_line_of_the_file(run: Command, tmp_path: Path) -> None:
    run(ndjson(ANNA) + json.dumps(IVAN) + ",\n", ".ndjson")

    assert "Row 2. A comma follows the object: line 2, column" in table(tmp_path / "errors.csv")[1][-1]


def test_a_file_that_cannot_be_opened_is_named_in_one_sentence(run: Command, tmp_path: Path) -> None:
    result = run(tmp_path, ".csv")

    assert (result.exit_code, "No such file" in result.output) == (2, True)


@pytest.mark.parametrize("ending", [".ndjson", ".csv"])
def test_an_overlong_line_is_refused_and_the_next_one_is_read(run: Command, tmp_path: Path, ending: str) -> None:
    long = json.dumps(ANNA | {"name": "a" * 100_000}) + "\n" + ndjson(IVAN)

    result = run(long if ending == ".ndjson" else csv_file(f"{'a' * 100_000},a,b,c", *people(1)), ending)

    assert last_line(result) == "2 rows: 1 created, 0 existing, 1 refused"
    assert "16 KB" in table(tmp_path / "errors.csv")[1][-1]


@pytest.mark.parametrize("length", range(MAX_LINE_LENGTH - 2, MAX_LINE_LENGTH + 4))
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_rows_are_numbered_by_lines_however_long_a_line_is(
    run: Command, tmp_path: Path, length: int, ending: str
) -> None:
    wrong = "Мария,user7,12,"
    result = run(csv_file("x" * length, *people(1), wrong).replace("\n", ending), ".csv")

    assert last_line(result) == "3 rows: 1 created, 0 existing, 2 refused"
    long, short = (row[-1] for row in table(tmp_path / "errors.csv")[1:])
    assert long.startswith("Row 2. ")
    assert ("16 KB" in long) is (length > MAX_LINE_LENGTH)
    assert short.startswith("Row 4. ")


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""], ids=["LF", "CRLF", "none"])
@pytest.mark.parametrize("length", range(MAX_LINE_LENGTH - 2, MAX_LINE_LENGTH + 4))
def test_a_line_of_json_may_be_as_long_as_a_request_body(run: Command, length: int, ending: str) -> None:
    result = run(ndjson(IVAN) + json.dumps(ANNA).ljust(length) + ending)

    is_refused = length > MAX_LINE_LENGTH
    assert last_line(result) == f"2 rows: {2 - is_refused} created, 0 existing, {int(is_refused)} refused"


def test_the_import_waits_while_postgresql_is_unavailable(
    run: Command, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_many = registration.register_many

    def fail_for_one(database: object, passwords: object, registrations: list[object]) -> object:
        results = register_many(database, passwords, registrations)  # type: ignore[arg-type]
        return [DatabaseUnavailableError(), *results[1:]] if len(registrations) > 1 else results

    monkeypatch.setattr(registration, "register_many", fail_for_one)
    monkeypatch.setattr(imports, "PAUSES_S", (0,))

    result = run(ndjson(ANNA, IVAN, BAD))

    assert "PostgreSQL does not answer" in result.output
    assert sum(map(int, re.findall(r"(\d+) (?:created|existing)", last_line(result)))) == 2
    assert len(rows.of("users")) == 2


def test_a_long_outage_aborts_the_import_which_can_be_continued_later(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_database: object, _passwords: object, registrations: list[object]) -> list[Exception]:
        return [DatabaseUnavailableError() for _ in registrations]

    with monkeypatch.context() as outage:
        outage.setattr(registration, "register_many", fail)
        outage.setattr(imports, "MAX_WAIT_S", 0)
        first = run(ndjson(ANNA, BAD))

    assert (first.exit_code, "Run the same command again" in first.output) == (1, True)
    assert last_line(first) == "2 rows: 0 created, 0 existing, 0 refused, 2 not imported"
    assert last_line(run(ndjson(ANNA))) == "1 row: 1 created, 0 existing, 0 refused"


def test_a_user_with_a_changed_password_is_not_a_refusal(run: Command, rows: Rows, app: Flask) -> None:
    run(ndjson(ANNA))
    group = FlaskGroup(create_app=lambda: app, load_dotenv=False)
    app.test_cli_runner().invoke(group, ["users", "reset-password", "a.sokolova"])

    again = run(ndjson(ANNA))

    assert (again.exit_code, last_line(again)) == (0, "1 row: 0 created, 1 existing, 0 refused")


def test_the_three_files_must_be_different(run: Command, client: FlaskClient) -> None:
    useradd(client, IVAN)

    result = run(ndjson(ANNA), ".csv", errors="people.csv")

    assert (result.exit_code, "must be different files" in result.output) == (2, True)
