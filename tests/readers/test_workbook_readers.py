"""Programs of different origin read the same cells of the workbook."""

import csv
import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from project.domain.attempts import AttemptRow, new_id
from project.exporters import xlsx
from tasks import judges
from tests.lines import lines_of
from tests.unit.test_exporters import FAILED, HEADING, REJECTED, RUSSIAN_TRANSLATIONS, attempt_row, report

SHEET = "Запросы"
TEXTS = (
    *("=1+1", "+1", "-1", "@SUM(A1)", "12345", "007", "1e5", "TRUE", "http://example.org", 'quote"'),
    *("a & b < c > d", "]]>", "😀", "<r><t>x</t></r>", "Анна Соколова", "王小明", "a,b;c", "'x"),
    *(" before", "after ", "  around\u3000", " "),
)
Rows = list[list[str]]


@cache
def attempts() -> list[AttemptRow]:
    """Return attempts of every outcome with missing and unusual values."""
    rows = [
        attempt_row(),
        attempt_row(**REJECTED, username=None, name=None),
        attempt_row(**REJECTED, phone_masked=None, email_masked=None),
        attempt_row(**FAILED, duration_ms=999),
        *(attempt_row(name=text, username=text) for text in TEXTS),
    ]
    moments = (datetime(2026, 11, 23, 9, tzinfo=UTC) + timedelta(seconds=37 * number) for number in range(len(rows)))
    return [replace(row, id=new_id(at), received_at=at) for row, at in zip(rows, moments, strict=True)]


def expected() -> Rows:
    """Return the cells of these attempts as a reader shows them."""
    return [
        [
            f"{row.received_at.astimezone(report().zone):%d.%m.%Y %H:%M:%S}",
            {201: "создан", 422: "отказ", 503: "сбой"}[row.status],
            str(row.status),
            "" if row.code == "created" else row.code,
            "" if row.code == "created" else RUSSIAN_TRANSLATIONS.reason(row.code),
            row.username or "",
            row.name or "",
            row.phone_masked or "",
            row.email_masked or "",
            RUSSIAN_TRANSLATIONS.messages.describe(row.errors),
            str(row.duration_ms),
            str(row.id),
        ]
        for row in attempts()
    ]


@pytest.fixture(scope="module")
def workbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a workbook of the attempts."""
    rows, path = attempts(), tmp_path_factory.mktemp("workbook") / "requests.xlsx"
    path.write_bytes(b"".join(xlsx.stream(lambda: report(rows), lines_of(rows), HEADING, RUSSIAN_TRANSLATIONS)))
    return path


def shown(value: Any) -> str:
    """Return a cell as text: times as their format says, numbers without a fraction of zero."""
    match value:
        case None:
            return ""
        case datetime():
            return f"{value + timedelta(microseconds=500_000):%d.%m.%Y %H:%M:%S}"
        case float():
            return f"{value:.10g}"
        case _:
            return str(value)


def read_with_openpyxl(path: Path) -> Rows:
    return [[shown(value) for value in row] for row in openpyxl.load_workbook(path)[SHEET].iter_rows(values_only=True)]


def read_with_calamine(path: Path) -> Rows:
    calamine = import_module("python_calamine")
    rows = calamine.CalamineWorkbook.from_path(path).get_sheet_by_name(SHEET).to_python()
    return [[shown(value) for value in row] for row in rows]


def read_with_pylightxl(path: Path) -> Rows:
    pylightxl = import_module("pylightxl")
    rows = [[shown(value) for value in row] for row in pylightxl.readxl(str(path)).ws(SHEET).rows]
    # Returns times as text in a form of its own.
    return [[re.sub(r"(\d{4})/(\d\d)/(\d\d)", r"\3.\2.\1", row[0]), *row[1:]] for row in rows]


def read_with_xlsx2csv(path: Path) -> Rows:
    xlsx2csv = import_module("xlsx2csv")
    file = StringIO()
    xlsx2csv.Xlsx2csv(str(path), dateformat="%d.%m.%Y %H:%M:%S").convert(file, sheetname=SHEET)
    return list(csv.reader(StringIO(file.getvalue())))


def read_with_npm(library: str) -> Callable[[Path], Rows]:
    def read(path: Path) -> Rows:
        rows: Rows = json.loads(run(judges.find_node(), Path(__file__).with_name("read.mjs"), library, path, SHEET))
        return rows

    return read


def read_with_libreoffice(path: Path) -> Rows:
    # Comma, quote, UTF-8, from line 1, cells as shown, the fourth sheet (LibreOffice Help, CSV filter parameters)
    form = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,true,false,false,4"
    profile = f"-env:UserInstallation=file://{path.parent}/profile"
    run("soffice", profile, "--headless", "--convert-to", form, "--outdir", path.parent, path)
    return rows_of_file(path.with_name(f"{path.stem}-{SHEET}.csv"))


def read_with_gnumeric(path: Path) -> Rows:
    target = path.with_suffix(".gnumeric.csv")
    options = f"sheet={SHEET} separator=, format=preserve quoting-mode=auto"
    run("ssconvert", "--export-type=Gnumeric_stf:stf_assistant", "-O", options, path, target)
    return rows_of_file(target)


def rows_of_file(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def run(*command: Any) -> str:
    """Run a program and return its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"TZ": "UTC"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


READERS = {
    "openpyxl": read_with_openpyxl,
    "python-calamine": read_with_calamine,
    "pylightxl": read_with_pylightxl,
    "xlsx2csv": read_with_xlsx2csv,
    "exceljs": read_with_npm("exceljs"),
    "SheetJS": read_with_npm("xlsx"),
    "read-excel-file": read_with_npm("read-excel-file"),
    "xlsx-populate": read_with_npm("xlsx-populate"),
    "LibreOffice": read_with_libreoffice,
    "Gnumeric": read_with_gnumeric,
}
MARKS = {"openpyxl": (), "LibreOffice": ("spreadsheets",), "Gnumeric": ("spreadsheets",)}


@pytest.mark.parametrize(
    "reader",
    [
        pytest.param(name, marks=[getattr(pytest.mark, mark) for mark in MARKS.get(name, ("judges",))])
        for name in READERS
    ],
)
def test_every_reader_reads_equal_cells(workbook: Path, reader: str) -> None:
    head, *rows = READERS[reader](workbook)

    assert head[0] == "Время"
    assert rows == expected()
