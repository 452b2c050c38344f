"""The log: one JSON object a line, traceable by the request's number, without personal data."""

import io
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from project.database import PreparedStatement
from project.runtime import Runtime
from project.services.upkeep import Upkeep
from tests.builders import ADDRESS, ANNA, KEY, log_in, useradd
from tests.conftest import MakeApp, Rows

PERSONAL = ("5550141", "555-01-41", "anna@", "Anna@", "Анна", "a.sokolova", "1990", KEY)


class Log:
    """What the service writes from now on."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        """All of it, escapes undone, so that nothing hides behind them."""
        return self.stream.getvalue() + json.dumps(self.lines, ensure_ascii=False)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its lines; every one must be a JSON object."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def clear(self) -> None:
        """Forget what was written."""
        self.stream.seek(0)
        self.stream.truncate()


@pytest.fixture
def written(app: Flask) -> Iterator[Log]:
    """The log of the service, in the form in which it leaves the process."""
    [handler] = _handlers()
    assert isinstance(handler, logging.StreamHandler)
    log = Log()
    former = handler.setStream(log.stream)
    yield log
    handler.setStream(former)


def test_every_answer_is_one_line_with_method_route_and_status(client: FlaskClient, written: Log) -> None:
    response = client.get("/login/")

    [line] = written.lines
    assert (
        line.items()
        >= {
            "level": "INFO",
            "logger": "useradd.access",
            "message": "request finished",
            "method": "GET",
            "route": "/login/",
            "status": 200,
            "request_id": response.headers["X-Request-Id"],
        }.items()
    )
    assert "timestamp" in line
    assert line["duration_ms"] >= 0
    assert not {"attempt_id", "outcome", "code", "trace_id", "client_request_id"} & line.keys()


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_an_attempt_that_fails_is_one_line_with_everything(
    client: FlaskClient, written: Log, monkeypatch: pytest.MonkeyPatch, runtime: Runtime
) -> None:
    monkeypatch.setattr(Upkeep, "round", lambda _: None)  # nobody closes the breaker
    runtime.database.breaker.record_failure(time.monotonic())
    written.clear()

    headers = {"Idempotency-Key": KEY, "X-Request-Id": "shop-17", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    answer = useradd(client, ANNA, headers=headers)

    [line] = written.lines
    number = answer.headers["X-Request-Id"]
    assert line.pop("duration_ms") >= 0
    assert line.pop("timestamp")
    assert line == {
        "level": "INFO",
        "logger": "useradd.access",
        "message": "request finished",
        "method": "POST",
        "route": ADDRESS,
        "status": 503,
        "outcome": "failed",
        "code": "database_unavailable",
        "request_id": number,
        "attempt_id": number,
        "client_request_id": "shop-17",
        "trace_id": TRACE,
    }


@pytest.mark.parametrize(
    "parent",
    [
        "",
        TRACE,
        f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-00f067aa0ba902b7",
        f"00-{TRACE}-00f067aa0ba902b7-01 evil",
    ],
)
def test_what_is_no_trace_is_not_logged(client: FlaskClient, written: Log, parent: str) -> None:
    client.get("/nowhere", headers={"traceparent": parent, "X-Request-Id": "ä" * 200})

    [line] = written.lines
    assert not {"trace_id", "client_request_id"} & line.keys()
    assert line["code"] == "not_found"


def test_an_attempt_that_is_recorded_has_its_row_and_no_line(client: FlaskClient, written: Log, rows: Rows) -> None:
    useradd(client, ANNA, headers={"Idempotency-Key": KEY})
    useradd(client, {**ANNA, "phone": "+7 912 555-01-4", "password": "hunter2"}, headers={"Idempotency-Key": KEY})
    client.post(f"{ADDRESS}?name=a.sokolova", data=b'{"email": "anna@', content_type="application/json")

    assert [status for status, _ in rows.ends()] == [201, 422, 400]
    assert written.lines == []


def test_a_failed_login_leaves_neither_login_nor_password_in_the_log(client: FlaskClient, written: Log) -> None:
    password = useradd(client, ANNA).get_json()["password"]

    log_in(client, "a.sokolova", "a wrong password")
    log_in(client, "anna@example.org", password, "?next=/results/?text=a.sokolova")

    assert [line["message"] for line in written.lines if line["logger"] != "useradd.access"] == [
        "login failed",
        "login succeeded",
    ]
    assert not [text for text in (*PERSONAL, password, "a wrong password") if text in written.text]


def test_a_defect_is_logged_with_its_traceback_and_the_number_that_the_client_was_told(
    client: FlaskClient, written: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def burst(*_: object, **__: object) -> None:
        raise RuntimeError("what went wrong")

    monkeypatch.setattr("project.services.registration.queries.useradd", burst)

    response = useradd(client, ANNA, headers={"Idempotency-Key": KEY})

    defect, answered = written.lines
    assert (defect["level"], defect["message"], answered["status"]) == ("ERROR", "unhandled exception", 500)
    assert "Traceback" in defect["exc_info"]
    assert "RuntimeError: what went wrong" in defect["exc_info"]
    assert {defect["request_id"], answered["request_id"]} == {response.headers["X-Request-Id"]}
    assert not [text for text in ("Traceback", "RuntimeError", "what went wrong", "burst") if text in response.text]
    assert not [text for text in PERSONAL if text in written.text]


def test_a_statement_that_failed_is_logged_without_what_was_sent(
    client: FlaskClient, written: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = PreparedStatement("wrong", "select 1 / 0 from (select {}) as sent", arguments=22)
    monkeypatch.setattr("project.queries.registration._USERADD", wrong)

    response = useradd(client, ANNA, headers={"Idempotency-Key": KEY})

    assert response.status_code == 500
    assert "DivisionByZero 22012" in written.text
    assert "22012" not in response.text
    assert not [text for text in (*PERSONAL, "hmac-sha256$") if text in written.text]


def test_without_postgresql_the_log_names_host_and_cause_but_no_password(
    make_app: MakeApp, app: Flask, written: Log, tmp_path: Path
) -> None:
    url = "postgresql+psycopg2://useradd:secret-of-db@127.0.0.1:1/useradd"
    client = make_app(database_url=url, request_deadline_s=0.5, data_dir=tmp_path).test_client()
    for handler in _handlers():
        handler.setStream(written.stream)

    response = useradd(client, ANNA, headers={"Idempotency-Key": KEY})

    assert response.status_code == 503
    assert {line["message"] for line in written.lines} == {
        "database unavailable: breaker opened",
        "database unavailable",
        "request finished",
    }
    assert {line["request_id"] for line in written.lines} == {response.headers["X-Request-Id"]}
    assert "127.0.0.1:1: Connection refused" in written.text
    assert not [text for text in (*PERSONAL, "secret-of-db") if text in written.text]


@pytest.mark.parametrize("evil", ["a\nERROR fake", "a\r\n{}", "\x1b[31mred", "a\u2028b", "a\u202eb", "\ud800", "a\0b"])
def test_whatever_is_logged_stays_one_line_that_a_terminal_can_show(written: Log, evil: str) -> None:
    record = logging.makeLogRecord({"name": "some.module", "levelname": "WARNING", "msg": evil, "cause": evil})
    for handler in _handlers():  # past pytest, which cannot tell half a character to another process
        handler.handle(record)

    assert written.stream.getvalue().endswith("}\n")
    assert written.stream.getvalue()[:-1].isascii()
    assert written.stream.getvalue()[:-1].isprintable()
    [line] = written.lines
    assert (line["message"], line["cause"]) == (evil, evil)


def _handlers() -> list[Any]:
    """Return the service's own among those who write the log."""
    return [one for one in logging.getLogger().handlers if type(one).__module__ == "project.http.logs"]


def test_a_username_cannot_write_a_line_of_its_own(client: FlaskClient, written: Log) -> None:
    evil = "a\nERROR fake \x1b[31m"

    useradd(client, {**ANNA, "username": evil, evil: 1}, headers={"User-Agent": "ERROR fake"})
    client.get("/ERROR fake\n\x1b[31m?ERROR=fake")
    client.open("/login/", method="ERROR FAKE AND MUCH LONGER THAN ANY METHOD")

    assert [line["status"] for line in written.lines] == [404, 405]
    assert [line["route"] for line in written.lines] == ["unknown", "unknown"]
    assert "fake" not in written.text
    assert len(written.lines[1]["method"]) <= 16


@pytest.mark.parametrize("address", ["/livez", "/readyz", "/metrics", "/static/swagger.js"])
def test_what_comes_every_second_is_not_logged(client: FlaskClient, written: Log, address: str) -> None:
    client.get(address, buffered=True)

    assert written.lines == []


def test_a_line_is_written_once_however_many_applications_there_were(make_app: MakeApp, client: FlaskClient) -> None:
    make_app()

    handlers = [one for one in logging.getLogger().handlers if type(one).__module__ == "project.http.logs"]
    assert len(handlers) == 1


def test_lines_may_be_text_for_people(make_app: MakeApp, capsys: pytest.CaptureFixture[str]) -> None:
    former = [one for one in logging.getLogger().handlers if type(one).__module__ == "project.http.logs"]
    make_app(log_format="text")

    logging.getLogger("some.module").warning("a word\nERROR fake \x1b[31m", extra={"cause": "Имя\r\nfake"})

    [logged] = capsys.readouterr().err.splitlines()
    logging.getLogger().handlers[-1:] = former
    assert logged.endswith(r"WARNING some.module: a word\nERROR fake \x1b[31m cause=\u0418\u043c\u044f\r\nfake")
