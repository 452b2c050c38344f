"""Golden responses: what programs receive, byte for byte, in both languages.

A difference means that the contract changed. If that is intended, write the files again and review their diff:
`GOLDEN_WRITE=1 .venv/bin/pytest tests/functional/test_golden.py`
"""

import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest
from flask import Flask, request
from flask.testing import FlaskClient

from project.http.guards import public
from project.runtime import get_runtime
from project.services import attempts
from tests.builders import ADDRESS, ANNA, IVAN, log_in
from tests.conftest import MakeApp, reset_service
from tests.functional.attempts import keep
from tests.functional.golden_requests import ATTEMPTS, BODIES, KEY, PERIOD, READER_READS, READS, errors
from tests.functional.recorder import Recorder, check

JSON = "application/json"


@pytest.fixture
def fresh_app(make_app: MakeApp, client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """A newly started service on empty tables; Retry-After is not random."""
    monkeypatch.setattr(random, "randint", lambda *_: 2)
    app = make_app(data_dir=tmp_path, workers=1)
    get_runtime(app).upkeep.ensure_running = lambda: None  # type: ignore[method-assign]
    reset_service(app)
    return app


@pytest.fixture(params=["ru", "en"])
def language(request: pytest.FixtureRequest) -> str:
    """The language of the client."""
    return str(request.param)


def test_the_openapi_document_is_the_same_byte_for_byte(fresh_app: Flask, language: str) -> None:
    check("openapi.json", fresh_app.test_client().get("/openapi.json", headers={"Accept-Language": language}).text)


def test_every_problem_document_is_the_same_byte_for_byte(
    fresh_app: Flask, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> NoReturn:
        raise request.environ["golden.error"]

    recorder = Recorder(fresh_app, language)
    for method, address in (("POST", ADDRESS), ("GET", "/livez")):
        endpoint = fresh_app.url_map.bind("localhost").match(address, method)[0]
        monkeypatch.setitem(fresh_app.view_functions, endpoint, public(fail))
        for name, error in errors():
            recorder.send(name, address, method, environ_overrides={"golden.error": error})

    recorder.check(f"problems-{language}.txt")


def test_every_json_address_responds_the_same_byte_for_byte(
    fresh_app: Flask, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(fresh_app, language)
    send = recorder.send
    for address in READS:
        send("without a login", address, "GET")
    send("with a wrong key", "/api/v1/stats/", "GET", {"Authorization": "Bearer no"})
    password = send("created", json=ANNA, headers={"Idempotency-Key": KEY}).get_json()["password"]
    send("replayed", json=ANNA, headers={"Idempotency-Key": KEY})
    send("key reused", json=IVAN, headers={"Idempotency-Key": KEY})
    send("bad key", json=IVAN, headers={"Idempotency-Key": "short"})
    send("dry run", f"{ADDRESS}?dry_run=true", json=IVAN)
    send("dry run of nothing", f"{ADDRESS}?dry_run=1", json={})
    send("conflict of all", json=ANNA)
    send("conflict of one", json=IVAN | {"username": "A.Sokolova"}, headers={"Idempotency-Key": KEY + "2"})
    send("created", "/useradd", json={"name": "Ё", "username": "yo", "email": "yo@example.org"})
    for name, body in BODIES.items():
        send(name, data=body, content_type=JSON)
    send("text", data="{}", content_type="text/plain")
    send("no type", data="{}")
    send("compressed", data="{}", content_type=JSON, headers={"Content-Encoding": "gzip"})
    send("another host", json=IVAN, headers={"Host": "evil.example"})
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"):
        send("", "/useradd/", method)
    for address in ("/livez", "/api/v1/stats/", "/openapi.json", "/nowhere"):
        send("", address)
    with monkeypatch.context() as patch:
        patch.setattr(attempts, "record_attempt", lambda *_, **__: False)
        send("not recorded", f"{ADDRESS}?dry_run=true", json=IVAN)
        send("not recorded", json={})

    log_in(recorder.client, "a.sokolova", password)
    ids = [keep(fresh_app, datetime(2026, 3, 9, 9, minute, tzinfo=UTC), **end) for minute, end in enumerate(ATTEMPTS)]
    for address in (*READER_READS, *(f"/api/v1/attempts/{attempt_id}/" for attempt_id in ids[-4:])):
        send("with a login", address, "GET")

    for database in (get_runtime(fresh_app).database, get_runtime(fresh_app).read_database):
        database.breaker.record_failure(time.monotonic())
    for address in ("/status", "/readyz", f"/api/v1/stats/?{PERIOD}", f"/api/v1/attempts/{ids[0]}/"):
        send("without PostgreSQL", address, "GET")
    send("without PostgreSQL", json=IVAN)
    get_runtime(fresh_app).upkeep.begin_stop()
    send("while stopping", "/readyz", "GET")
    recorder.check(f"answers-{language}.txt")
