"""`flask attempts export`: the downloads of the results page on the command line."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from flask.cli import FlaskGroup
from flask.testing import FlaskClient
from openpyxl import load_workbook

from project.domain.errors import DatabaseUnavailableError
from project.services import reports
from tests.functional.attempts import INVALID_PHONE, ago, keep

Command = Callable[..., Result]


@pytest.fixture
def export(app: Flask, reader: FlaskClient, tmp_path: Path) -> Command:
    """Exports attempts of several outcomes, some of them old. The first argument is the file."""
    keep(app, ago(days=20), username="old")
    keep(app, ago(minutes=30), status=422, code="invalid_phone", username="bad", errors=(INVALID_PHONE,))
    keep(app, ago(minutes=10), status=409, code="username_taken", username="taken")

    def run(name: str, *options: str) -> Result:
        group = FlaskGroup(create_app=lambda: app, load_dotenv=False)
        return app.test_cli_runner().invoke(group, ["attempts", "export", str(tmp_path / name), *options])

    return run


def page(reader: FlaskClient, query: str) -> bytes:
    """Return the file that the page downloads."""
    with reader.get(f"/results/export.csv?{query}") as response:
        content: bytes = response.data
    return content


def test_the_csv_is_identical_to_the_download_of_an_administrator(
    export: Command, administrator: FlaskClient, tmp_path: Path
) -> None:
    result = export("all.csv")

    assert (result.exit_code, result.output) == (0, f"Attempts written to {tmp_path}/all.csv: 4\n")
    assert (tmp_path / "all.csv").read_bytes() == page(administrator, "period=all")
    assert [path.name for path in tmp_path.iterdir()] == ["all.csv"]


@pytest.mark.parametrize(
    ("options", "query"),
    [
        (["--result", "rejected"], "result=rejected"),
        (["--code", "invalid_phone", "--code", "username_taken"], "code=invalid_phone,username_taken"),
        (["--status", "409"], "status=409"),
        (["--q", "old"], "q=old"),
        (["--tz", "UTC"], "tz=UTC"),
        (["--from", f"{ago(days=30):%Y-%m-%d}", "--to", f"{ago(days=10):%Y-%m-%d}"], None),
    ],
)
def test_a_filter_selects_the_same_attempts_as_on_the_page(
    export: Command, administrator: FlaskClient, tmp_path: Path, options: list[str], query: str | None
) -> None:
    dates = f"period=dates&from={options[1]}&to={options[-1]}"

    assert export("some.csv", *options).exit_code == 0

    expected = page(administrator, dates if query is None else f"period=all&{query}")
    assert (tmp_path / "some.csv").read_bytes() == expected
    assert expected.count(b"\n") >= 2


@pytest.mark.parametrize(
    ("language", "sheet", "text"), [("ru", "Запросы", "ЗАПРОСЫ НА СОЗДАНИЕ"), ("en", "Requests", "Moscow time")]
)
def test_txt_and_xlsx_are_in_the_selected_language(
    export: Command, tmp_path: Path, language: str, sheet: str, text: str
) -> None:
    assert export("report.txt", "--lang", language).exit_code == 0
    assert export("book.xlsx", "--lang", language).exit_code == 0

    content = (tmp_path / "report.txt").read_text("utf-8-sig")
    assert text in content
    assert "flask attempts export" in content
    assert sheet in load_workbook(io.BytesIO((tmp_path / "book.xlsx").read_bytes())).sheetnames


@pytest.mark.parametrize(
    ("name", "options", "status"),
    [
        ("a.pdf", [], 2),
        ("a.csv", ["--tz", "Moscow"], 2),
        ("a.csv", ["--code", "nonsense"], 1),
        ("a.csv", ["--from", "2026-11-23", "--to", "2026-11-17"], 1),
        ("missing/a.csv", [], 1),
    ],
)
def test_an_invalid_option_is_reported_and_no_file_is_created(
    export: Command, tmp_path: Path, name: str, options: list[str], status: int
) -> None:
    result = export(name, *options)

    assert (result.exit_code, "Error: " in result.output) == (status, True), result.output
    assert list(tmp_path.iterdir()) == []


def test_an_outage_during_an_export_leaves_the_former_file_unchanged(
    export: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DatabaseUnavailableError

    (tmp_path / "all.csv").write_text("former")
    monkeypatch.setattr(reports, "find_next_block", fail)

    result = export("all.csv")

    assert (result.exit_code, "Traceback" in result.output) == (1, False)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("all.csv", "former")]
