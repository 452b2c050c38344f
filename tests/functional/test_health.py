"""Health checks for load balancers."""

import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
from flask.testing import FlaskClient

from config import Config
from project.database import Database
from project.runtime import Runtime, get_runtime
from project.services.upkeep import Upkeep
from project.spool import Spool, SpoolError
from project.version import VERSION
from tests.builders import HTML, IVAN, useradd
from tests.conftest import MakeApp

ADDRESSES = ["/livez", "/readyz"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_health_checks_are_public_and_respond_ok(client: FlaskClient, address: str) -> None:
    response = client.get(address)

    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("address", ADDRESSES)
def test_health_checks_use_no_database_and_no_session(
    client: FlaskClient, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a health check used the database")

    monkeypatch.setattr(Database, "write_transaction", refuse)
    monkeypatch.setattr(Database, "read_transaction", refuse)

    response = client.get(address)

    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("address", ADDRESSES)
def test_health_checks_accept_head_and_refuse_other_methods(client: FlaskClient, address: str) -> None:
    statuses = [client.open(address, method=method).status_code for method in ("HEAD", "POST", "DELETE")]

    assert statuses == [200, 405, 405]


def test_the_status_describes_the_instance(make_app: MakeApp, client: FlaskClient, tmp_path: Path) -> None:
    app = make_app(data_dir=tmp_path, workers=1)

    assert app.test_client().get("/status").json == {
        "status": "ok",
        "version": VERSION,
        "database": "up",
        "statistics": "up",
        "spool": {"attempts": 0, "bytes": 0, "oldest_s": None, "quarantined": 0, "lost": 0},
        "uncounted": 0,
        "workers": {"running": 1, "expected": 1, "replaced": 0, "database_away": 0},
    }


def test_the_status_shows_an_outage_and_spooled_attempts(
    client: FlaskClient, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Upkeep, "run_round", lambda *_: None)  # the breaker stays open
    runtime.database.breaker.record_failure(time.monotonic())
    answer = useradd(client, IVAN)
    runtime.spool.check()

    found = client.get("/status").json

    assert (answer.status_code, answer.json["code"]) == (503, "database_unavailable")  # type: ignore[index]
    assert found is not None
    assert (found["status"], found["database"], found["statistics"]) == ("degraded", "away", "up")
    assert (found["spool"]["attempts"], found["spool"]["oldest_s"]) == (1, 0)
    assert found["workers"]["database_away"] == 1


def test_the_state_in_words_needs_no_login_and_no_database(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_runtime(client.application).upkeep.run_round()

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("the state used the database")

    for name in ("write_transaction", "read_transaction", "write_statement", "run_once"):
        monkeypatch.setattr(Database, name, refuse)

    page, state = client.get("/state/?lang=en", headers=HTML), client.get("/state/?lang=en").get_json()

    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert (state["is_well"], state["sentence"]) == (True, "All is well.")
    assert [line["text"] for line in state["lines"][:3]] == ["yes", "yes", "yes"]
    assert "Set-Cookie" not in client.get("/state/").headers


def test_the_state_tells_that_the_disk_cannot_keep_requests(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spool, "fullness", 0.95)

    state = client.get("/state/?lang=en").get_json()

    assert not state["is_well"]
    assert state["lines"][1]["text"] == "no: the disk is full or cannot be written to"


@pytest.mark.parametrize(
    ("writing", "reading", "replica", "expected"),
    [
        (False, False, False, [True, True]),
        (False, True, False, [True, True]),
        (False, True, True, [True, False]),
        (True, False, False, [False, False]),
    ],
)
def test_a_replica_replaces_the_primary_for_statistics(
    make_app: MakeApp,
    config: Config,
    tmp_path: Path,
    *,
    writing: bool,
    reading: bool,
    replica: bool,
    expected: list[bool],
) -> None:
    app = make_app(data_dir=tmp_path, database_read_url=config.database_url)
    runtime = get_runtime(app)
    databases = (runtime.database, *runtime.read_database.databases)
    for database, is_away in zip(databases, (writing, reading, replica), strict=True):
        if is_away:
            database.breaker.record_failure(time.monotonic())

    lines = app.test_client().get("/state/").get_json()["lines"]

    assert [lines[0]["is_well"], lines[2]["is_well"]] == expected


def test_an_instance_with_a_full_spool_is_not_ready(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Spool, "fullness", 0.95)

    response = client.get("/readyz")

    assert (response.status_code, response.json) == (503, {"status": "spool_full"})
    assert client.get("/livez").status_code == 200


def test_an_instance_with_an_unusable_disk_is_not_ready(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Spool) -> float:
        raise SpoolError("gone")

    monkeypatch.setattr(Spool, "fullness", property(fail))

    assert (client.get("/readyz").status_code, client.get("/status").json["status"]) == (503, "spool_unusable")  # type: ignore[index]


def test_a_stopping_instance_is_not_ready(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app(data_dir=tmp_path)
    get_runtime(app).upkeep.begin_stop()

    response = app.test_client().get("/readyz")

    assert (response.status_code, response.json) == (503, {"status": "stopping"})
