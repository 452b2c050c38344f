"""PostgreSQL is unavailable, hangs or loses connections: responses and recorded attempts."""

import errno
import html
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient

from project.contract.schemas import UserAddSchema
from project.domain.registration import NewUser
from project.runtime import get_runtime
from tests.builders import ANNA, HTML, useradd
from tests.conftest import MakeApp, Rows

MakeClient = Callable[[str], FlaskClient]


@pytest.fixture
def client_of(make_app: MakeApp, tmp_path: Path) -> MakeClient:
    """Creates a client of a service with this database address and a short deadline."""

    def make_client(url: str) -> FlaskClient:
        return make_app(database_url=url, request_deadline_s=0.5, data_dir=tmp_path).test_client()

    return make_client


@pytest.fixture
def spooled(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """Returns the records in the spool of the service."""

    def read() -> list[dict[str, Any]]:
        lines = b"".join(path.read_bytes() for path in sorted(tmp_path.glob("spool/*/*[0-9].log"))).splitlines()
        return [json.loads(line.partition(b" ")[2]) for line in lines]

    return read


@pytest.fixture
def closed_port() -> str:
    """A database address with a port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"postgresql+psycopg2://u:secret-of-db@127.0.0.1:{listener.getsockname()[1]}/useradd"


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that accepts connections and never responds.

    It behaves like a frozen PostgreSQL.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"postgresql+psycopg2://u:secret-of-db@127.0.0.1:{listener.getsockname()[1]}/useradd"


def _fail(*_: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("database_address", ["closed_port", "silent_server"])
def test_without_postgresql_the_response_is_503_and_the_attempt_is_spooled(
    client_of: MakeClient,
    database_address: str,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    spooled: Callable[[], list[dict[str, Any]]],
) -> None:
    client = client_of(request.getfixturevalue(database_address))

    response = useradd(client, ANNA)

    assert (response.status_code, response.json["code"]) == (503, "database_unavailable")  # type: ignore[index]
    assert response.content_type == "application/problem+json"
    assert 1 <= int(response.headers["Retry-After"]) <= 3
    assert response.json is not None
    assert "recorded" not in response.json
    assert [record["id"] for record in spooled()] == [response.json["attempt_id"]]
    assert response.json["idempotency_key"]
    assert "secret-of-db" not in response.text + caplog.text
    assert "Traceback" not in response.text + caplog.text


def test_an_attempt_that_cannot_be_spooled_is_logged_and_reported_as_not_recorded(
    client_of: MakeClient, closed_port: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(closed_port)
    monkeypatch.setattr(os, "fdatasync", _fail)

    response = useradd(client, ANNA)

    assert (response.status_code, response.json["recorded"]) == (503, False)  # type: ignore[index]
    [line] = [record for record in caplog.records if record.message == "attempt not recorded"]
    assert line.attempt_id == response.headers["X-Request-Id"]  # type: ignore[attr-defined]
    assert "5550141" not in json.dumps(line.__dict__, default=str)


def test_invalid_input_is_refused_as_usual_during_an_outage(client_of: MakeClient, closed_port: str) -> None:
    response = useradd(client_of(closed_port), {})

    assert (response.status_code, response.json["code"]) == (422, "validation_failed")  # type: ignore[index]
    assert "recorded" not in response.json  # type: ignore[operator]


def test_a_dry_run_works_without_postgresql(client_of: MakeClient, closed_port: str) -> None:
    client = client_of(closed_port)

    response = client.post("/useradd?dry_run=true", json=ANNA)

    assert (response.status_code, response.json["valid"]) == (200, True)  # type: ignore[index]


def test_health_checks_work_without_postgresql(client_of: MakeClient, closed_port: str) -> None:
    client = client_of(closed_port)

    assert (client.get("/livez").status_code, client.get("/readyz").status_code) == (200, 200)


def test_a_protected_page_without_postgresql_is_a_page_with_503(client_of: MakeClient, closed_port: str) -> None:
    client = client_of(closed_port)
    with client.session_transaction() as session:
        session["_user_id"] = "0190163d-8694-739b-aea5-966c26f8ad91.0"
        session["began"] = session["seen"] = 2**40

    response = client.get("/results/", headers=HTML)

    assert (response.status_code, response.mimetype) == (503, "text/html")
    assert "Retry-After" in response.headers
    assert not [value for name, value in response.headers if name == "Set-Cookie"]


@pytest.fixture
def logged_in(client_of: MakeClient, closed_port: str) -> FlaskClient:
    """A browser whose user logged in before the outage of PostgreSQL."""
    client = client_of(closed_port)
    with client.session_transaction() as session:
        session["_user_id"] = "0190163d-8694-739b-aea5-966c26f8ad91.0"
        session["began"] = session["seen"] = int(time.time())
        session["name"] = "petrov.ivan"
    return client


def test_without_postgresql_the_results_page_keeps_filter_and_user_name(logged_in: FlaskClient) -> None:
    page = logged_in.get("/results/?period=30d&q=anna&lang=en", headers=HTML)

    assert page.status_code == 503
    assert "The database does not answer" in page.text
    assert re.search(r'period=30d[^>]*aria-current="true"', page.text)
    assert 'value="anna"' in page.text
    assert '<span class="name">petrov.ivan</span>' in page.text
    assert 'data-hx-get="/results/?period=30d&amp;q=anna&amp;lang=en"' in page.text
    assert '<noscript><meta http-equiv="refresh"' in page.text
    assert not re.search('id="(kpi|rows)"|/results/export', page.text)


@pytest.mark.parametrize(
    ("address", "reloads"),
    [("/account/", True), (f"/results/{UUID(int=1)}/", True), ("/results/export.txt", False), ("/problems/", False)],
)
def test_pages_reload_after_an_outage_and_downloads_do_not(logged_in: FlaskClient, address: str, reloads: bool) -> None:
    page = logged_in.get(address, headers=HTML)

    assert ('id="back"' in page.text) is reloads
    assert "petrov.ivan" in page.text


def test_an_expired_session_shows_no_user_name(logged_in: FlaskClient) -> None:
    with logged_in.session_transaction() as session:
        session["seen"] -= 3600

    assert "petrov.ivan" not in logged_in.get("/problems/", headers=HTML).text
    assert logged_in.get("/results/", headers=HTML).status_code == 302


@pytest.mark.parametrize("database_address", ["closed_port", "silent_server"])
def test_the_state_page_says_what_does_not_work(
    client_of: MakeClient, database_address: str, request: pytest.FixtureRequest
) -> None:
    client = client_of(request.getfixturevalue(database_address))
    get_runtime(client.application).upkeep.run_round()

    page = client.get("/state/?lang=en", headers=HTML)
    state = client.get("/state/?lang=en").get_json()
    status = client.get("/status").get_json()

    assert page.status_code == 200
    assert re.search(r"No connection to the database since \d\d:\d\d\.", page.text)
    lines = [(line["label"], re.sub(r"\d\d:\d\d", "…", line["text"])) for line in state["lines"]]
    assert lines[:3] == [
        ("Users are created", "no, since …"),
        ("Requests are kept", "yes, on disk until the database answers"),
        ("Statistics are shown", "no, since …"),
    ]
    assert re.fullmatch(r"\d\d:\d\d:\d\d, Moscow time .*", state["lines"][3]["text"])
    assert all(html.escape(line["text"]) in page.text for line in state["lines"])
    assert (status["database"], status["statistics"]) == ("away", "away")


def test_pages_of_an_outage_link_to_the_state(logged_in: FlaskClient) -> None:
    for address in ("/results/", "/account/"):
        page = logged_in.get(address, headers=HTML)
        body = page.text.partition("<main")[2].partition("</main>")[0]

        assert page.status_code == 503
        assert 'href="/state/"' in body


def test_without_postgresql_the_results_page_begins_with_the_outage(logged_in: FlaskClient) -> None:
    logged_in.get("/results/", headers=HTML)

    page = logged_in.get("/results/?lang=en", headers=HTML)

    assert re.search(r'id="state" class="state away".*No connection to the database since \d\d:\d\d\.', page.text)


def test_administrators_see_the_state_of_the_service_without_postgresql(logged_in: FlaskClient) -> None:
    with logged_in.session_transaction() as session:
        session["role"] = "administrator"

    page = logged_in.get("/admin/?lang=en", headers=HTML)

    assert page.status_code == 200
    assert "does not answer" in page.text
    assert '<span class="name">petrov.ivan</span>' in page.text
    assert {logged_in.get(f"/admin/{name}/", headers=HTML).status_code for name in ("users", "api-keys")} == {503}


@pytest.mark.parametrize(("role", "seen_s", "status"), [("auditor", 0, 403), ("administrator", 3600, 302)])
def test_nobody_else_sees_it_without_postgresql(logged_in: FlaskClient, role: str, seen_s: int, status: int) -> None:
    with logged_in.session_transaction() as session:
        session["role"] = role
        session["seen"] -= seen_s

    assert logged_in.get("/admin/", headers=HTML).status_code == status


@pytest.fixture
def replaced_sessions(app: Flask) -> Iterator[None]:
    """Close the pooled connections after the test: later ones may use them without a retry."""
    yield
    for database in (get_runtime(app).database, get_runtime(app).read_database):
        database._engine.dispose()


@pytest.mark.usefixtures("replaced_sessions")
def test_broken_pooled_connections_cause_no_error(client: FlaskClient, rows: Rows) -> None:
    useradd(client, {**ANNA, "username": "before", "phone": None, "email": "before@example.org"})
    rows.query(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = 'useradd' and datname = current_database() and pid <> pg_backend_pid()"
    )

    response = useradd(client, ANNA)

    assert response.status_code == 201
    assert rows.outcomes() == [(201, "created"), (201, "created")]


@pytest.mark.slow
def test_an_unconfirmed_commit_is_reported_as_outcome_unknown(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_run(*_: Any, **__: Any) -> None:
        raise psycopg2.OperationalError("connection lost")

    monkeypatch.setattr("project.database.PreparedStatement.run", broken_run)

    response = useradd(client, ANNA)

    assert (response.status_code, response.json["code"]) == (503, "outcome_unknown")  # type: ignore[index]


def test_missing_tables_are_an_outage_and_logged_as_misconfiguration(
    make_app: MakeApp, postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = postgres_url.rpartition("/")[0].replace("postgresql://", "postgresql+psycopg2://")
    client = make_app(database_url=f"{server}/postgres", data_dir=tmp_path).test_client()

    response = useradd(client, ANNA)

    assert (response.status_code, response.json["code"]) == (503, "database_unavailable")  # type: ignore[index]
    assert "database misconfigured" in caplog.text


def test_a_refused_statement_is_an_internal_error_logged_without_personal_data(
    client: FlaskClient, rows: Rows, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_contacts = NewUser(name="Анна Соколова", username="a.sokolova", phone=None, email=None, birth_date=None)
    monkeypatch.setattr(UserAddSchema, "load", lambda *_: without_contacts)

    response = useradd(client, {"name": "Анна Соколова", "username": "a.sokolova"})

    assert (response.status_code, response.json["code"]) == (500, "internal_error")  # type: ignore[index]
    assert rows.outcomes() == [(500, "internal_error")]
    assert "users_contact_check" in caplog.text
    assert "Соколова" not in caplog.text
    assert "sokolova" not in caplog.text
