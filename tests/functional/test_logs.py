"""The log: one JSON object per line, traceable by request ID, without personal data."""

import io
import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from flask import Flask
from flask.testing import FlaskClient

from project.database import PreparedStatement
from project.runtime import Runtime
from project.services.upkeep import Upkeep
from tests.builders import ADDRESS, ANNA, KEY, log_in, useradd
from tests.conftest import MakeApp, Rows

SENSITIVE_DATA = ("5550141", "555-01-41", "anna@", "Anna@", "Анна", "a.sokolova", "1990", KEY)


class Log:
    """The log since the start of the test."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        """The complete text, also with escapes decoded."""
        return self.stream.getvalue() + json.dumps(self.lines, ensure_ascii=False)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All lines; each must be a JSON object."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def clear(self) -> None:
        """Clear the log."""
        self.stream.seek(0)
        self.stream.truncate()


@pytest.fixture
def log(app: Flask) -> Iterator[Log]:
    """The log of the service as it is written to the stream."""
    [handler] = _handlers()
    assert isinstance(handler, logging.StreamHandler)
    captured = Log()
    former = handler.setStream(captured.stream)
    yield captured
    handler.setStream(former)


def test_every_response_is_one_line_with_method_route_and_status(client: FlaskClient, log: Log) -> None:
    response = client.get("/login/")

    [line] = log.lines
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


def test_a_failed_attempt_is_one_line_with_all_fields(
    client: FlaskClient, log: Log, monkeypatch: pytest.MonkeyPatch, runtime: Runtime
) -> None:
    monkeypatch.setattr(Upkeep, "run_round", lambda *_: None)  # the breaker stays open
    runtime.database.breaker.record_failure(time.monotonic())
    log.clear()

    headers = {"Idempotency-Key": KEY, "X-Request-Id": "shop-17", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    answer = useradd(client, ANNA, headers=headers)

    [line] = log.lines
    request_id = answer.headers["X-Request-Id"]
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
        "request_id": request_id,
        "attempt_id": request_id,
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
def test_an_invalid_trace_context_is_not_logged(client: FlaskClient, log: Log, parent: str) -> None:
    client.get("/nowhere", headers={"traceparent": parent, "X-Request-Id": "ä" * 200})

    [line] = log.lines
    assert not {"trace_id", "client_request_id"} & line.keys()
    assert line["code"] == "not_found"


def test_a_recorded_attempt_has_a_row_and_no_log_line(client: FlaskClient, log: Log, rows: Rows) -> None:
    useradd(client, ANNA, headers={"Idempotency-Key": KEY})
    useradd(client, {**ANNA, "phone": "+7 912 555-01-4", "password": "hunter2"}, headers={"Idempotency-Key": KEY})
    client.post(f"{ADDRESS}?name=a.sokolova", data=b'{"email": "anna@', content_type="application/json")

    assert [status for status, _ in rows.outcomes()] == [201, 422, 400]
    assert log.lines == []


def test_a_failed_login_leaves_neither_login_nor_password_in_the_log(client: FlaskClient, log: Log) -> None:
    password = useradd(client, ANNA).get_json()["password"]

    log_in(client, "a.sokolova", "a wrong password")
    log_in(client, "anna@example.org", password, "?next=/results/?text=a.sokolova")

    assert [line["message"] for line in log.lines if line["logger"] != "useradd.access"] == [
        "login failed",
        "login succeeded",
    ]
    assert not [text for text in (*SENSITIVE_DATA, password, "a wrong password") if text in log.text]


def test_an_internal_error_is_logged_with_its_traceback_and_request_id(
    client: FlaskClient, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_defect(*_: object, **__: object) -> None:
        raise RuntimeError("what went wrong")

    monkeypatch.setattr("project.services.registration.queries.useradd", raise_defect)

    response = useradd(client, ANNA, headers={"Idempotency-Key": KEY})

    error, access = log.lines
    assert (error["level"], error["message"], access["status"]) == ("ERROR", "unhandled exception", 500)
    assert "Traceback" in error["exc_info"]
    assert "RuntimeError: what went wrong" in error["exc_info"]
    assert {error["request_id"], access["request_id"]} == {response.headers["X-Request-Id"]}
    assert not [
        text for text in ("Traceback", "RuntimeError", "what went wrong", "raise_defect") if text in response.text
    ]
    assert not [text for text in SENSITIVE_DATA if text in log.text]


def test_a_failed_statement_is_logged_without_its_parameters(
    client: FlaskClient, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = PreparedStatement("wrong", "select 1 / 0 from (select {}) as sent", arguments=1)
    monkeypatch.setattr("project.queries.registration._USERADD", wrong)

    response = useradd(client, ANNA, headers={"Idempotency-Key": KEY})

    assert response.status_code == 500
    assert "DivisionByZero 22012" in log.text
    assert "22012" not in response.text
    assert not [text for text in (*SENSITIVE_DATA, "hmac-sha256$") if text in log.text]


def test_an_outage_is_logged_with_host_and_cause_but_without_the_password(
    make_app: MakeApp, app: Flask, log: Log, tmp_path: Path
) -> None:
    url = "postgresql+psycopg2://useradd:secret-of-db@127.0.0.1:1/useradd"
    client = make_app(database_url=url, request_deadline_s=0.5, data_dir=tmp_path).test_client()
    for handler in _handlers():
        handler.setStream(log.stream)

    response = useradd(client, ANNA, headers={"Idempotency-Key": KEY})

    assert response.status_code == 503
    assert {line["message"] for line in log.lines} == {
        "database unavailable: breaker opened",
        "database unavailable",
        "request finished",
    }
    ids = {line["message"]: line.get("request_id") for line in log.lines}  # a check may have noticed the outage first
    assert ids["request finished"] == response.headers["X-Request-Id"]
    assert "127.0.0.1:1: Connection refused" in log.text
    assert not [text for text in (*SENSITIVE_DATA, "secret-of-db") if text in log.text]


@pytest.mark.parametrize("evil", ["a\nERROR fake", "a\r\n{}", "\x1b[31mred", "a\u2028b", "a\u202eb", "\ud800", "a\0b"])
def test_every_log_record_is_one_printable_line(log: Log, evil: str) -> None:
    record = logging.makeLogRecord({"name": "some.module", "levelname": "WARNING", "msg": evil, "cause": evil})
    for handler in _handlers():  # not by the logger: pytest-xdist cannot transfer lone surrogates
        handler.handle(record)

    assert log.stream.getvalue().endswith("}\n")
    assert log.stream.getvalue()[:-1].isascii()
    assert log.stream.getvalue()[:-1].isprintable()
    [line] = log.lines
    assert (line["message"], line["cause"]) == (evil, evil)


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Restore the log handlers of the other tests at the end."""
    former, root = _handlers(), logging.getLogger()
    yield
    for handler in _handlers():
        root.removeHandler(handler)
    for handler in former:
        root.addHandler(handler)


def _handlers() -> list[Any]:
    """Return the log handlers of the service."""
    return [one for one in logging.getLogger().handlers if type(one).__module__ == "project.http.logs"]


def test_client_data_cannot_inject_log_lines(client: FlaskClient, log: Log) -> None:
    evil = "a\nERROR fake \x1b[31m"

    useradd(client, {**ANNA, "username": evil, evil: 1}, headers={"User-Agent": "ERROR fake"})
    client.get("/ERROR fake\n\x1b[31m?ERROR=fake")
    client.open("/login/", method="ERROR FAKE AND MUCH LONGER THAN ANY METHOD")

    assert [line["status"] for line in log.lines] == [404, 405]
    assert [line["route"] for line in log.lines] == ["unknown", "unknown"]
    assert "fake" not in log.text
    assert len(log.lines[1]["method"]) <= 16


@pytest.mark.parametrize("address", ["/livez", "/readyz", "/metrics", "/static/swagger.js"])
def test_frequent_requests_are_not_logged(client: FlaskClient, log: Log, address: str) -> None:
    client.get(address, buffered=True)

    assert log.lines == []


def test_several_applications_share_one_log_handler(make_app: MakeApp, client: FlaskClient) -> None:
    make_app()

    assert len(_handlers()) == 1


class Terminal(io.StringIO):
    """Standard error of a terminal."""

    def isatty(self) -> bool:
        return True


@contextmanager
def _terminal() -> Iterator[Terminal]:
    """Applications made within log to the terminal."""
    with patch("sys.stderr", Terminal()) as terminal, _own_handlers():
        yield terminal


def test_plain_text_cannot_forge_lines_or_control_a_terminal(make_app: MakeApp) -> None:
    with _terminal() as terminal:
        make_app(log_format="text")
        logging.getLogger("some.module").warning("a word\nERROR fake \x1b[31m", extra={"cause": "Имя\r\nfake\u202e"})

    [logged] = terminal.getvalue().splitlines()
    assert logged.endswith(r"WARNING some.module: a word\nERROR fake \x1b[31m cause=Имя\r\nfake\u202e")


def test_a_terminal_shows_one_short_line_for_each_request(make_app: MakeApp) -> None:
    with _terminal() as terminal:
        client = make_app(log_format="auto").test_client()
        useradd(client, ANNA)
        useradd(client, {**ANNA, "username": "anna@example.org", "phone": "1"})
        client.get("/nowhere/79991234567")
        client.get("/livez")

    lines = terminal.getvalue().splitlines()
    patterns = [
        rf"POST /api/v1/useradd/ 201 {ANNA['username']} \d+ ms",
        r"POST /api/v1/useradd/ 422 invalid_phone a•••@example.org \d+ ms",
        r"GET unknown 404 not_found \d+ ms",
    ]
    assert len(lines) == len(patterns)
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(r"\d\d:\d\d:\d\d " + pattern, line), line


def test_the_log_is_json_where_standard_error_is_no_terminal(
    make_app: MakeApp, capsys: pytest.CaptureFixture[str]
) -> None:
    with _own_handlers():
        make_app(log_format="auto")
        logging.getLogger("some.module").warning("a word")

    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "a word"
