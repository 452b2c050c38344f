"""What Prometheus is told."""

import ipaddress
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from project.contract.error_codes import reason_codes
from project.database import Database
from project.domain.attempts import Outcome
from project.health.metrics import outcomes
from project.runtime import Runtime
from project.services.upkeep import Upkeep
from project.spool import Spool, SpoolError
from tests.builders import ANNA, IVAN, KEY, log_in, useradd
from tests.conftest import MakeApp

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def client(make_app: MakeApp, client: FlaskClient, tmp_path: Path) -> FlaskClient:
    """A stranger's program, asking a service that has counted nothing yet."""
    return make_app(data_dir=tmp_path).test_client()


def figures(client: FlaskClient) -> Figures:
    """Return what /metrics tells, read as Prometheus reads it."""
    response = client.get("/metrics")
    assert (response.status_code, response.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def figure(client: FlaskClient, name: str, **labels: str) -> float:
    """Return one of them."""
    return figures(client)[name, frozenset(labels.items())]


def test_attempts_are_counted_by_outcome_and_reason(client: FlaskClient) -> None:
    useradd(client, ANNA, headers={"Idempotency-Key": KEY})
    useradd(client, ANNA, headers={"Idempotency-Key": KEY})
    useradd(client, {**IVAN, "phone": "1"})
    useradd(client, {**ANNA, "email": None})
    client.post("/useradd?dry_run=1", json=IVAN)
    client.get("/useradd")

    found = figures(client)
    counted = {
        (labels["outcome"], labels["code"]): value
        for (name, pairs), value in found.items()
        if name == "useradd_attempts_total" and value and (labels := dict(pairs))
    }
    assert counted == {
        ("created", "created"): 1,
        ("unchanged", "replayed"): 1,
        ("unchanged", "dry_run"): 1,
        ("rejected", "invalid_phone"): 1,
        ("rejected", "username_taken"): 1,
        ("rejected", "method_not_allowed"): 1,
    }
    name = "useradd_attempt_duration_seconds_count"
    assert {outcome: found[name, frozenset({("outcome", outcome)})] for outcome in Outcome} == {
        "created": 1,
        "unchanged": 2,
        "rejected": 3,
        "failed": 0,
    }
    assert found["useradd_queue_duration_seconds_count", frozenset()] == 6


def test_every_reason_that_an_attempt_can_have_is_counted_under_its_name() -> None:
    assert set(outcomes()) >= set(reason_codes())


def test_other_answers_are_counted_by_blueprint_and_class_of_status(client: FlaskClient) -> None:
    user = useradd(client, IVAN).get_json()
    log_in(client, user["login"], user["password"])
    client.get("/results/")
    client.get("/results/export.csv", buffered=True)
    client.get("/admin/")
    client.get("/nowhere")
    client.get("/livez")

    counted = {
        (labels["blueprint"], labels["status"]): value
        for (name, pairs), value in figures(client).items()
        if name == "useradd_answers_total" and value and (labels := dict(pairs))
    }
    assert counted == {
        ("auth", "2xx"): 1,
        ("auth", "3xx"): 1,
        ("reports", "2xx"): 1,
        ("files", "2xx"): 1,
        ("admin", "4xx"): 1,
        ("other", "4xx"): 1,
        ("health", "2xx"): 1,
    }


def test_an_outage_shows_and_needs_no_database(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime: Runtime = client.application.extensions["useradd"]
    monkeypatch.setattr(Upkeep, "run_round", lambda _: None)  # nobody closes the breaker
    runtime.database.breaker.record_failure(time.monotonic())
    useradd(client, IVAN)

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("/metrics asked the database")

    for way in ("write_transaction", "read_transaction", "write_statement", "run_once"):
        monkeypatch.setattr(Database, way, refuse)

    assert figure(client, "useradd_breaker_open_workers", database="writing") == 1
    assert figure(client, "useradd_breaker_open_workers", database="reading") == 0
    assert figure(client, "useradd_attempts_total", outcome="failed", code="database_unavailable") == 1
    assert figure(client, "useradd_spool_attempts") == 1
    assert 0 < figure(client, "useradd_spool_fullness_ratio") < 0.001


def test_what_no_disk_takes_is_counted_as_lost(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Spool) -> NoReturn:
        raise SpoolError("gone")

    runtime: Runtime = client.application.extensions["useradd"]
    monkeypatch.setattr(Upkeep, "run_round", lambda _: None)
    monkeypatch.setattr(Spool, "open", fail)
    runtime.database.breaker.record_failure(time.monotonic())

    answer = useradd(client, IVAN).get_json()

    assert answer["recorded"] is False
    assert figure(client, "useradd_attempts_lost_total") == 1
    assert figure(client, "useradd_spool_fullness_ratio") == 1


def test_connections_at_work_and_what_waits_for_counting_show(client: FlaskClient) -> None:
    runtime: Runtime = client.application.extensions["useradd"]
    runtime.upkeep.unaggregated = 1_999

    assert (
        runtime.database.write_transaction(
            lambda _: figure(client, "useradd_database_connections_used", database="writing")
        )
        == 1
    )
    assert figure(client, "useradd_database_connections_max", database="writing") == 5
    assert figure(client, "useradd_database_waiting_threads", database="writing") == 0
    assert figure(client, "useradd_rollup_lag_attempts") == 1_999


def test_attempts_brought_in_from_the_disk_are_counted(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime: Runtime = client.application.extensions["useradd"]
    with monkeypatch.context() as patch:
        patch.setattr(Upkeep, "run_round", lambda _: None)
        runtime.database.breaker.record_failure(time.monotonic())
        useradd(client, IVAN)

    runtime.upkeep.run_round()

    assert figure(client, "useradd_attempts_drained_total") == 1


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("::ffff:127.0.0.1", {}, 200),
        ("10.1.2.3", {}, 403),
        ("", {}, 403),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, 403),  # a proxy that TRUSTED_PROXIES does not name
        ("127.0.0.1", {"X-Forwarded-Proto": "https"}, 403),
    ],
)
def test_only_this_machine_may_look_and_nobody_behind_an_unknown_proxy(
    client: FlaskClient, address: str, headers: dict[str, str], status: int
) -> None:
    response = client.get("/metrics", environ_overrides={"REMOTE_ADDR": address}, headers=headers)

    assert response.status_code == status
    assert ("useradd_" in response.text) is (status == 200)


def test_metrics_allow_names_who_may_look(make_app: MakeApp, tmp_path: Path) -> None:
    networks = (ipaddress.ip_network("10.0.0.0/8"),)
    client = make_app(data_dir=tmp_path, metrics_allow=networks).test_client()

    asked = [client.get("/metrics", environ_overrides={"REMOTE_ADDR": one}) for one in ("10.1.2.3", "127.0.0.1")]

    assert [answer.status_code for answer in asked] == [200, 403]


def test_what_runs_is_named(client: FlaskClient, app: Flask) -> None:
    [labels] = [dict(pairs) for name, pairs in figures(client) if name == "useradd_build_info"]

    assert labels.keys() == {"version", "python"}
    assert figure(client, "useradd_workers") == 1
