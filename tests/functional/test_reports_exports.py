"""Downloads: the attempts of the page as .txt, .csv and .xlsx."""

import csv
import io
import logging
import re
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice, product
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openpyxl import load_workbook
from waitress.channel import ClientDisconnected

from docs import sample
from project.database import ReadDatabase
from project.domain.errors import DatabaseUnavailableError
from project.domain.lines import Block
from project.domain.reports import Report
from project.reports import exports
from project.services import reports as service
from tests.builders import HTML
from tests.functional.attempts import INVALID_PHONE, ago, keep, keep_all
from tests.functional.test_reports import headline_numbers, show, text_of

FILES = ["/results/export.txt", "/results/export.csv", "/results/export.xlsx"]
OLD = {"/api/v1/download-txt/": "/results/export.txt", "/api/v1/download-xlsx/": "/results/export.xlsx"}


@pytest.fixture
def varied(reader: FlaskClient, app: Flask) -> FlaskClient:
    """A logged-in browser and varied attempts.

    One of them is hostile and one too old for the default period.
    """
    keep(app, ago(days=20), username="old")
    keep(app, ago(minutes=30), status=422, code="invalid_phone", username="=1+1", errors=(INVALID_PHONE,))
    keep(app, ago(minutes=20), status=409, code="username_taken", username="анна\tб")
    keep(app, ago(minutes=10), status=503, code="database_unavailable", username="galina")
    return reader


def logins_of(address: str, content: bytes) -> list[str]:
    """Return the logins of a file of any format in their order."""
    if "txt" in address:
        lines = content.decode("utf-8-sig").split("\r\n")
        return [line.split("\t")[3].rstrip() for line in lines if line.count("\t") > 5][1:]
    if "csv" in address:
        return [row["username"] for row in csv.DictReader(io.StringIO(content.decode(), newline=""))]
    sheet = load_workbook(io.BytesIO(content)).worksheets[3]
    return [str(row[5]) for row in sheet.iter_rows(min_row=2, values_only=True)]


@pytest.mark.parametrize("address", FILES)
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"=1+1", "анна\tб", "galina", "petrov.ivan"}),
        ("?period=all", {"old", "=1+1", "анна\tб", "galina", "petrov.ivan"}),
        ("?result=rejected", {"=1+1", "анна\tб"}),
        ("?code=username_taken&status=409", {"анна\tб"}),
        ("?q=gal&result=failed", {"galina"}),
        ("?period=today&q=nobody", set()),
    ],
)
def test_a_download_has_the_rows_of_the_page(varied: FlaskClient, address: str, query: str, expected: set[str]) -> None:
    response = varied.get(f"{address}{query}", buffered=True)

    assert response.status_code == 200
    found = {login.lstrip("'").replace("анна б", "анна\tб") for login in logins_of(address, response.data)}
    assert found == expected
    assert (headline_numbers(show(varied, query)) or ["0"])[0] == str(len(expected))


@pytest.mark.parametrize("address", FILES)
def test_a_download_is_an_attachment_with_a_plain_name(varied: FlaskClient, address: str) -> None:
    response = varied.get(f"{address}?code=invalid_phone", buffered=True)

    disposition = response.headers["Content-Disposition"]
    ending = address.rpartition(".")[2]
    assert re.fullmatch(
        rf'attachment; filename="useradd_\d{{4}}-\d\d-\d\d_\d{{4}}-\d\d-\d\d_invalid_phone\.{ending}"', disposition
    )
    assert response.headers["Content-Type"] == exports.MEDIA_TYPES[ending]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"


def test_the_txt_shows_period_filters_user_and_number_of_rows(varied: FlaskClient) -> None:
    text = varied.get("/results/export.txt?result=rejected&period=30d&q=1", buffered=True).data.decode("utf-8-sig")

    head = text.partition("\r\n\r\n")[0]
    assert "московское время (UTC+3)" in head
    assert re.search(r"Результат: +Отказы\r\n", head)
    assert re.search(r"Причина: +любая\r\n", head)
    assert re.search(r"Поиск: +1\r\n", head)
    assert re.search(r"Сформировано: .*, petrov\.ivan$", head)
    assert text.endswith("Конец: 1 строка\r\n")


def test_the_workbook_has_the_totals_of_the_page_and_no_formulas(varied: FlaskClient) -> None:
    response = varied.get("/results/export.xlsx", buffered=True)

    book = load_workbook(io.BytesIO(response.data))
    assert book.sheetnames == ["Сводка", "По ошибкам", "По дням", "Запросы"]
    values = {str(row[0]): row[1] for row in book["Сводка"].iter_rows(values_only=True) if row[0]}
    page = headline_numbers(show(varied))
    assert [values[name] for name in ("Всего запросов", "Создано пользователей", "Отказы (4xx)")] == [
        int(number) for number in page[:3]
    ]
    assert all(cell.data_type != "f" for sheet in book for row in sheet.iter_rows() for cell in row)


def test_downloads_are_in_the_readers_language(varied: FlaskClient) -> None:
    varied.get("/results/?lang=en")

    text = varied.get("/results/export.txt", buffered=True).data.decode("utf-8-sig")
    book = load_workbook(io.BytesIO(varied.get("/results/export.xlsx", buffered=True).data))

    assert text.startswith("REQUESTS TO CREATE USERS (useradd)")
    assert "The phone number is not valid" in text
    assert text.endswith("End: 4 rows\r\n")
    assert book.sheetnames == ["Summary", "By error", "By day", "Requests"]


@pytest.mark.parametrize(("old", "new"), OLD.items())
def test_the_addresses_of_the_django_version_return_the_same_files(varied: FlaskClient, old: str, new: str) -> None:
    former, present = (varied.get(f"{address}?period=30d", buffered=True) for address in (old, new))

    for header in ("Content-Disposition", "Content-Type"):
        assert former.headers[header] == present.headers[header]
    assert logins_of(old, former.data) == logins_of(new, present.data) != []


@pytest.mark.parametrize("address", FILES)
def test_downloads_are_streamed_outside_of_the_request(varied: FlaskClient, app: Flask, address: str) -> None:
    response = varied.get(f"{address}?period=all")
    assert response.is_streamed
    assert "Content-Length" not in response.headers
    blocks = response.iter_encoded()

    first = next(blocks)
    keep(app, ago(), username="too.late")
    rest = b"".join(blocks)
    response.close()

    assert first
    assert logins_of(address, first + rest) == [*logins_of(address, first + rest)[:4], "petrov.ivan"]


@pytest.mark.parametrize("address", FILES)
def test_a_download_starts_before_its_attempts_are_counted(
    varied: FlaskClient, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Report] = []
    count = service.add_export_counts

    def record(database: ReadDatabase, snapshot: Report) -> Report:
        counted.append(count(database, snapshot))
        return counted[-1]

    monkeypatch.setattr(service, "add_export_counts", record)
    response = varied.get(f"{address}?period=all")
    blocks = response.iter_encoded()

    first = next(blocks)
    before = list(counted)
    rest = b"".join(blocks)
    response.close()

    assert first
    assert before == []
    assert len(logins_of(address, first + rest)) == counted[0].total == 5


@pytest.mark.parametrize("address", [*FILES, *OLD])
def test_invalid_filters_are_refused(varied: FlaskClient, address: str) -> None:
    unknown = varied.get(f"{address}?code=nonsense", headers=HTML)
    reversed_ = varied.get(f"{address}?from=2026-03-10&to=2026-03-01")

    assert unknown.status_code == 400
    assert "«code»" in text_of(unknown.text)
    assert (reversed_.status_code, reversed_.json and reversed_.json["code"]) == (400, "bad_request")


def test_there_are_only_three_file_formats(varied: FlaskClient) -> None:
    assert varied.get("/results/export.pdf").status_code == 404


@pytest.fixture
def no_permit() -> Iterator[None]:
    """All permits for exports are taken."""
    for _ in range(exports.MAX_CONCURRENT):
        assert exports._permits.acquire(blocking=False)
    yield
    for _ in range(exports.MAX_CONCURRENT):
        exports._permits.release()


@pytest.mark.usefixtures("no_permit")
@pytest.mark.parametrize("address", FILES)
def test_an_export_without_a_free_permit_is_refused_with_retry_after(varied: FlaskClient, address: str) -> None:
    response = varied.get(address, headers=HTML)

    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert "Уже готовятся две выгрузки" in text_of(response.text)


@pytest.mark.parametrize("address", FILES)
def test_a_permit_is_released_however_an_export_ends(
    varied: FlaskClient, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        varied.get(address, buffered=True)
        varied.get(address).close()  # a client that disconnected before the first byte
        varied.get(f"{address}?code=nonsense")
        varied.head(address, buffered=True)
    monkeypatch.setattr(exports, "file_name", lambda *_: 1 / 0)
    for _ in range(3):
        assert varied.get(address).status_code == 500
    monkeypatch.undo()

    assert varied.get(address, buffered=True).status_code == 200


def test_a_permit_is_released_if_a_hook_drops_the_response(varied: FlaskClient) -> None:
    hooks: list[Any] = varied.application.after_request_funcs[None]
    hooks.append(lambda _: 1 / 0)
    try:
        assert {varied.get(FILES[0]).status_code for _ in range(3)} == {500}
    finally:
        hooks.pop()

    assert varied.get(FILES[0], buffered=True).status_code == 200


@pytest.mark.parametrize(
    ("is_refused", "speed", "is_aborted"),
    [(True, 1000, True), (False, 1000, False), (True, 10**6, False)],
    ids=["slow", "slow but alone", "quick"],
)
def test_a_slow_download_is_aborted_once_another_one_was_refused(
    is_refused: bool, speed: float, is_aborted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(exports, "time", clock)
    monkeypatch.setattr(exports._last_refusal, "at", 1.0 if is_refused else -1.0)
    read = 0

    with pytest.raises(ClientDisconnected) if is_aborted else nullcontext():
        for chunk in exports._chunks(iter([bytes(exports.CHUNK)] * 100)):
            read += len(chunk)
            clock.now += len(chunk) / speed

    assert (read < 100 * exports.CHUNK) == is_aborted


@pytest.mark.parametrize("address", FILES)
def test_an_aborted_download_is_incomplete(varied: FlaskClient, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    complete = varied.get(address, buffered=True).data

    def broken(*_: object) -> Iterator[Block]:
        yield Block(0, b"")
        raise DatabaseUnavailableError

    monkeypatch.setattr(service, "iter_blocks", broken)
    response = varied.get(address)
    sent: list[bytes] = []

    with pytest.raises(DatabaseUnavailableError):
        sent.extend(response.iter_encoded())
    response.close()
    content = b"".join(sent)
    assert response.status_code == 200
    assert 0 < len(content) < len(complete)
    assert "Конец:".encode() not in content
    assert not zipfile.is_zipfile(io.BytesIO(content))


def test_exports_are_logged_with_user_and_format(varied: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        varied.get("/results/export.csv", buffered=True)

    (line,) = [record for record in caplog.records if record.message == "export"]
    assert (line.__dict__["format"], line.__dict__["rows"]) == ("csv", 4)
    assert re.fullmatch(r"[0-9a-f-]{36}", line.__dict__["user_id"])


def shown_bytes(page: str, ending: str) -> float:
    """Return the size that the page shows for a download."""
    number, unit = re.search(rf"\.{ending} ≈ ([\d,.]+) (МБ|кБ|MB|kB)", text_of(page)).groups()  # type: ignore[union-attr]
    return float(number.replace(",", ".")) * (1e6 if unit in ("МБ", "MB") else 1e3)


@pytest.mark.slow
def test_the_page_shows_the_size_of_each_download_within_fifteen_percent(reader: FlaskClient, app: Flask) -> None:
    keep_all(app, list(islice(sample.records(), 2000)))

    for language, query in product(
        ("ru", "en"), ("", "&result=rejected", "&result=created", "&code=username_taken", "&status=422")
    ):
        reader.get(f"/results/?lang={language}")
        page = show(reader, f"?period=all{query}")
        for address in FILES:
            size = len(reader.get(f"{address}?period=all{query}", buffered=True).data)
            assert 0.85 < shown_bytes(page, address.rpartition(".")[2]) / size < 1.15, (language, query, address)


def test_links_to_downloads_do_not_turn_error_pages_into_files(varied: FlaskClient) -> None:
    links = re.findall(r'<a[^>]*href="/results/export\.[^>]*>', show(varied))

    assert len(links) == 3
    assert not any("download" in link for link in links)


def test_only_the_raw_csv_has_formulas_and_other_files_have_no_raw_form(varied: FlaskClient) -> None:
    for_people, for_programs = (
        logins_of("csv", varied.get(f"/results/export.csv{query}", buffered=True).data) for query in ("", "?raw=1")
    )

    assert ("'=1+1" in for_people, "=1+1" in for_people) == (True, False)
    assert "=1+1" in for_programs
    for address in ("/results/export.txt?raw=1", "/results/export.xlsx?raw=1", "/results/export.csv?raw=maybe"):
        assert varied.get(address).status_code == 400
