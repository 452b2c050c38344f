"""Pages for people and JSON for programs, and downloads by programs."""

import csv
import io
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from project.api.routes import PATHS
from project.database.breaker import Breaker
from project.runtime import get_runtime
from project.services import api_keys
from tests.builders import ANNA, HTML, csrf_token, useradd
from tests.functional.attempts import ago, keep

JAVA = {"Accept": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"}
"""The header of Java's HttpURLConnection."""
BROWSERS = (HTML, JAVA)
PROBLEM = "application/problem+json"
DOWNLOADS = (
    "/results/export.csv",
    "/results/export.txt",
    "/results/export.xlsx",
    "/api/v1/download-txt/",
    "/api/v1/download-xlsx/",
)


@pytest.mark.parametrize("accept", BROWSERS, ids=["browser", "java"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("address", [*PATHS, "/results/", "/nowhere", "/livez"])
def test_a_refused_unsafe_request_is_answered_in_json_whatever_it_accepts(
    client: FlaskClient, method: str, address: str, accept: dict[str, str]
) -> None:
    response = client.open(address, method=method, headers=accept, json={})

    assert (response.status_code >= 400, response.mimetype) == (True, PROBLEM)


@pytest.mark.parametrize("accept", BROWSERS, ids=["browser", "java"])
@pytest.mark.parametrize(
    "address",
    ["/api/v1/stats/", "/api/v1/attempts/", "/api/v1/nothing/", "/api/", "/api/v1/useradd/", "/api/v1/download-txt/"],
)
def test_every_address_below_api_answers_in_json_whatever_is_accepted(
    client: FlaskClient, address: str, accept: dict[str, str]
) -> None:
    assert client.get(address, headers=accept).mimetype == PROBLEM


@pytest.mark.parametrize("data", [{"name": "x"}, {"name": (io.BytesIO(b"x"), "x.txt")}], ids=["form", "file"])
def test_a_form_sent_to_useradd_is_answered_in_json(client: FlaskClient, data: dict[str, Any]) -> None:
    response = client.post("/useradd", data=data, headers=HTML)

    assert (response.status_code, response.mimetype) == (415, PROBLEM)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("address", ["/useradd", "/nowhere"])
def test_a_browser_that_reads_gets_a_page(client: FlaskClient, address: str, method: str) -> None:
    assert client.open(address, method=method, headers=HTML).mimetype == "text/html"


@pytest.mark.parametrize("accept", [{}, {"Accept": "*/*"}, {"Accept": "application/json, text/html;q=0.5"}], ids=str)
def test_a_program_that_reads_gets_json(client: FlaskClient, accept: dict[str, str]) -> None:
    assert client.get("/nowhere", headers=accept).mimetype == PROBLEM


def test_a_refused_form_of_a_page_is_answered_by_a_page(reader: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    token = csrf_token(reader.get("/account/").text)
    forbidden = reader.post("/admin/api-keys/new/", data={"csrf_token": token}, headers=HTML)
    monkeypatch.setattr(Breaker, "is_open", True)
    unavailable = reader.post("/login/", data={"login": "x", "password": "y", "csrf_token": token}, headers=HTML)

    answers = [forbidden, unavailable]
    assert [answer.status_code for answer in answers] == [403, 503]
    assert {answer.mimetype for answer in answers} == {"text/html"}


def test_a_form_that_a_program_sends_to_a_page_is_answered_in_json(client: FlaskClient) -> None:
    response = client.post("/login/", data={"login": "x", "password": "y"})

    assert (response.status_code, response.mimetype) == (400, PROBLEM)


@pytest.fixture
def key(app: Flask, client: FlaskClient) -> dict[str, str]:
    """The header with a valid API key."""
    with app.app_context():
        return {"Authorization": f"Bearer {api_keys.issue_key(get_runtime().database, 'report', None).key}"}


@pytest.mark.parametrize("address", DOWNLOADS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Accept": "*/*"},
        {"Accept": "text/csv"},
        {"Authorization": "Bearer no"},
        {"Authorization": "Bearer no", **HTML},
    ],
    ids=str,
)
def test_a_program_without_a_valid_key_gets_401_instead_of_the_login_page(
    client: FlaskClient, address: str, headers: dict[str, str]
) -> None:
    response = client.get(address, headers=headers)

    assert (response.status_code, response.mimetype) == (401, PROBLEM)
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "Location" not in response.headers


@pytest.mark.parametrize("address", DOWNLOADS)
@pytest.mark.parametrize("accept", [{}, HTML], ids=["program", "browser"])
def test_a_program_with_a_key_gets_the_file(
    client: FlaskClient, key: dict[str, str], address: str, accept: dict[str, str]
) -> None:
    with client.get(address, headers={**key, **accept}) as response:
        assert response.status_code == 200
        assert response.headers["Content-Disposition"].startswith("attachment")
        assert response.data


def test_a_file_for_a_key_is_masked_and_says_that_a_program_exported_it(
    client: FlaskClient, app: Flask, key: dict[str, str]
) -> None:
    useradd(client, ANNA | {"name": "Анна Мария Соколова"})
    keep(app, ago(minutes=1), username="89161234567", status=422, code="invalid_phone")

    with client.get("/results/export.csv", headers=key) as response:
        rows = list(csv.DictReader(io.StringIO(response.data.decode("utf-8-sig"), newline="")))
    with client.get("/results/export.txt?lang=en", headers=key) as response:
        text = response.data.decode("utf-8-sig")

    assert [row["username"] for row in rows] == ["•••••••••67", "a.sokolova"]
    assert "Соколова" not in str(rows)
    assert "API key" in text.partition("a.sokolova")[0]
