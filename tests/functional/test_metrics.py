"""Prometheus metrics."""

import ipaddress
import time
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from project.contract.error_codes import FIELD_CODES, PROBLEMS
from project.database import Database
from project.domain.attempts import Outcome
from project.health.metrics import outcomes_by_code
from project.queries import maintenance
from project.runtime import Runtime
from project.services.upkeep import Upkeep
from project.spool import Spool, SpoolError
from tests.builders import ANNA, IVAN, KEY, log_in, useradd
from tests.conftest import MakeApp

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def client(make_app: MakeApp, client: FlaskClient, tmp_path: Path) -> FlaskClient:
    """An anonymous client of a service whose counters are zero."""
    return make_app(data_dir=tmp_path).test_client()


def samples(client: FlaskClient) -> Samples:
    """Return the samples of /metrics as Prometheus parses them."""
    response = client.get("/metrics")
    assert (response.status_code, response.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def sample_value(client: FlaskClient, name: str, **labels: str) -> float:
    """Return the value of one sample."""
    return samples(client)[name, frozenset(labels.items())]


def test_attempts_are_counted_by_outcome_and_reason(client: FlaskClient) -> None:
    useradd(client, ANNA, headers={"Idempotency-Key": KEY})
    useradd(client, ANNA, headers={"Idempotency-Key": KEY})
    useradd(client, {**IVAN, "phone": "1"})
    useradd(client, {**ANNA, "email": None})
    client.post("/useradd?dry_run=1", json=IVAN)
    client.get("/useradd")

    found = samples(client)
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


def test_every_code_of_attempts_has_a_counter() -> None:
    assert set(outcomes_by_code()) >= FIELD_CODES.keys() | PROBLEMS.keys() - {"validation_failed", "forbidden"}


def test_other_responses_are_counted_by_blueprint_and_status_class(client: FlaskClient) -> None:
    user = useradd(client, IVAN).get_json()
    log_in(client, user["login"], user["password"])
    client.get("/results/")
    client.get("/results/export.csv", buffered=True)
    client.get("/admin/")
    client.get("/nowhere")
    client.get("/livez")

    counted = {
        (labels["blueprint"], labels["status"]): value
        for (name, pairs), value in samples(client).items()
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


def test_metrics_show_an_outage_and_use_no_database(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime: Runtime = client.application.extensions["useradd"]
    monkeypatch.setattr(Upkeep, "run_round", lambda *_: None)  # the breaker stays open
    runtime.database.breaker.record_failure(time.monotonic())
    useradd(client, IVAN)

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("/metrics used the database")

    for name in ("write_transaction", "read_transaction", "write_statement", "run_once"):
        monkeypatch.setattr(Database, name, refuse)

    runtime.spool.check()

    assert sample_value(client, "useradd_breaker_open_workers", database="writing") == 1
    assert sample_value(client, "useradd_breaker_open_workers", database="reading") == 0
    assert sample_value(client, "useradd_attempts_total", outcome="failed", code="database_unavailable") == 1
    assert sample_value(client, "useradd_spool_attempts") == 1
    assert 0 < sample_value(client, "useradd_spool_fullness_ratio") < 0.001


def test_an_attempt_that_cannot_be_spooled_is_counted_as_lost(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Spool) -> NoReturn:
        raise SpoolError("gone")

    runtime: Runtime = client.application.extensions["useradd"]
    monkeypatch.setattr(Upkeep, "run_round", lambda *_: None)
    monkeypatch.setattr(Spool, "open", fail)
    runtime.database.breaker.record_failure(time.monotonic())

    answer = useradd(client, IVAN).get_json()

    assert answer["recorded"] is False
    assert sample_value(client, "useradd_attempts_lost_total") == 1
    assert sample_value(client, "useradd_spool_fullness_ratio") == 1


def test_metrics_show_used_connections_and_unaggregated_attempts(client: FlaskClient) -> None:
    runtime: Runtime = client.application.extensions["useradd"]
    runtime.upkeep.unaggregated_attempts = 1_999

    assert (
        runtime.database.write_transaction(
            lambda _: sample_value(client, "useradd_database_connections_used", database="writing")
        )
        == 1
    )
    assert sample_value(client, "useradd_database_connections_max", database="writing") == 5
    assert sample_value(client, "useradd_database_waiting_threads", database="writing") == 0
    assert sample_value(client, "useradd_rollup_lag_attempts") == 1_999


def test_metrics_show_by_how_much_the_clocks_differ(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime: Runtime = client.application.extensions["useradd"]
    behind = timedelta(days=-2)
    monkeypatch.setattr(maintenance, "datetime", SimpleNamespace(now=lambda zone: datetime.now(zone) + behind))

    runtime.upkeep.run_round()

    assert sample_value(client, "useradd_clock_difference_seconds") == pytest.approx(2 * 86400, abs=60)


def test_drained_attempts_are_counted(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime: Runtime = client.application.extensions["useradd"]
    with monkeypatch.context() as patch:
        patch.setattr(Upkeep, "run_round", lambda *_: None)
        runtime.database.breaker.record_failure(time.monotonic())
        useradd(client, IVAN)

    runtime.upkeep.run_round()

    assert sample_value(client, "useradd_attempts_drained_total") == 1


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
def test_metrics_are_available_only_locally_and_not_through_an_unknown_proxy(
    client: FlaskClient, address: str, headers: dict[str, str], status: int
) -> None:
    response = client.get("/metrics", environ_overrides={"REMOTE_ADDR": address}, headers=headers)

    assert response.status_code == status
    assert ("useradd_" in response.text) is (status == 200)


def test_metrics_are_available_to_the_networks_of_metrics_allow(make_app: MakeApp, tmp_path: Path) -> None:
    networks = (ipaddress.ip_network("10.0.0.0/8"),)
    client = make_app(data_dir=tmp_path, metrics_allow=networks).test_client()

    responses = [client.get("/metrics", environ_overrides={"REMOTE_ADDR": one}) for one in ("10.1.2.3", "127.0.0.1")]

    assert [answer.status_code for answer in responses] == [200, 403]


def test_metrics_show_version_and_workers(client: FlaskClient, app: Flask) -> None:
    [labels] = [dict(pairs) for name, pairs in samples(client) if name == "useradd_build_info"]

    assert labels.keys() == {"version", "python"}
    assert sample_value(client, "useradd_workers") == 1
