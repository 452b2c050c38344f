"""`flask users import` with damaged files, and with files of other programs."""

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flask import Flask
from flask.cli import FlaskGroup
from flask.testing import FlaskClient

from tests.conftest import Rows

DATA = Path(__file__).parents[1] / "data" / "import"


@dataclass
class Expected:
    """Expected result: users, refused rows with a part of their text, and message."""

    users: list[str] | int
    refused: dict[int, str] = field(default_factory=dict)
    message: str = ""
    exit_status: int | None = None


ONE = "Open it in Excel and save it again. 0 imported until row 0."
CASES = {
    "badcrc.xlsx": Expected([], message="The workbook is damaged.", exit_status=2),
    "badstyles.xlsx": Expected([], message="The workbook is damaged.", exit_status=2),
    "emptyfill.xlsx": Expected([], message="The workbook is damaged.", exit_status=2),
    "broken_xml.xlsx": Expected(
        266,
        message="damaged at row 268. Open it in Excel and save it again. 266 imported until row 267.",
        exit_status=2,
    ),
    "datenan.xlsx": Expected([], message=f"damaged at row 2. {ONE}", exit_status=2),
    "sharedidx.xlsx": Expected([], message=f"damaged at row 2. {ONE}", exit_status=2),
    "password.xlsx": Expected([], message="protected by a password", exit_status=2),
    "strict.xlsx": Expected([], message="Strict Open XML", exit_status=2),
    "xerr.xlsx": Expected([], {2: "Имя: The cell has the error #N/A", 3: "Телефон: The cell has the error #REF!",
                               4: "Логин: The cell has the error #NAME?", 5: "Почта: The cell has the error #N/A"}),
    "xfloat.xlsx": Expected(
        ["12345", "xfloat1", "xfloat2", "xfloat5", "xfloat7"], {5: "Телефон: ", 7: "Логин: The cell has TRUE "}
    ),
    "xhid2.xlsx": Expected(["xhid2"]),
    "quote.csv": Expected(199, {4: "name: A quotation mark is not closed"}),
    "quote2.csv": Expected(9, {4: "name: A quotation mark", 9: "name: A quotation mark"}),
    "quote3.csv": Expected(999, {4: "name: A quotation mark"}),
    "dates.csv": Expected(
        ["dt1", "dt2", "dt5", "dt7"],
        {4: "birth_date: ", 5: "birth_date: ", 7: "birth_date: ", 9: "birth_date: ", 10: "birth_date: The date must"},
    ),
    "hdrnl.csv": Expected(["hdrnl1"]),
    "pandas.csv": Expected(["pdc1", "pdc2"]),
    "sep.csv": Expected(["sep1"]),
    "utf16.csv": Expected(["utf161"]),
    "phone_marks.csv": Expected(["pm1", "pm2", "pm3", "pm4"], {6: "phone: ", 7: "phone: ", 8: "phone: "}),
    "sci.csv": Expected(
        ["sci3", "sci4", "sci5", "sci6", "sci7", "sci8", "sci9"], {2: "phone: A spreadsheet", 3: "phone: A spreadsheet"}
    ),
}  # fmt: skip


def test_every_sample_file_has_an_expectation() -> None:
    assert set(CASES) == {path.name for path in DATA.iterdir()}


@pytest.mark.parametrize("name", CASES)
def test_of_every_file_each_row_is_created_or_refused_by_name(
    app: Flask, client: FlaskClient, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    expected, errors = CASES[name], tmp_path / "errors.csv"
    options = ["--errors", str(errors), "--credentials", str(tmp_path / "passwords.csv")]
    group = FlaskGroup(create_app=lambda: app, load_dotenv=False)

    result = app.test_cli_runner().invoke(group, ["users", "import", str(DATA / name), *options])

    users = sorted(row["username"] for row in rows.of("users"))
    assert (users if isinstance(expected.users, list) else len(users)) == expected.users, result.output
    assert expected.message in result.output
    assert result.exit_code == (bool(expected.refused) if expected.exit_status is None else expected.exit_status)
    refused = _refused(errors)
    assert set(refused) == set(expected.refused), refused
    assert not [number for number, text in expected.refused.items() if text not in refused[number]], refused
    _assert_that_counts_add_up(result.output, len(users), len(refused))


def _refused(errors: Path) -> dict[int, str]:
    """Return the message about each refused row."""
    if not errors.exists():
        return {}
    with errors.open(newline="") as file:
        texts = [line[-1] for line in list(csv.reader(file))[1:]]
    return {int(text.split()[1].rstrip(".")): text for text in texts}


def _assert_that_counts_add_up(output: str, created: int, refused: int) -> None:
    counts = re.findall(r"(\d+) rows?: (\d+) created, (\d+) existing, (\d+) refused", output)
    if created or refused:
        total, *parts = map(int, counts[-1])
        assert (parts[0], parts[2]) == (created, refused)
        assert total == sum(parts)
