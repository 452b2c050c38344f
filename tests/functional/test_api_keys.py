"""API keys: what they open, what it costs, and that nobody gets in when that cannot be asked."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from project.database.breaker import Breaker
from project.extensions import db
from project.runtime import get_runtime
from project.services import api_keys as service
from tests.builders import ADDRESS, ANNA, IVAN, log_in, useradd
from tests.conftest import Rows

READABLE = ("/api/v1/stats/", "/api/v1/attempts/", "/api/v1/attempts/{}/")


@pytest.fixture
def key(app: Flask, client: FlaskClient) -> str:
    """A valid key."""
    with app.app_context():
        return service.issue(get_runtime(app).database, "a program", by=None).key


@pytest.fixture
def required(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """API keys are demanded of those who create users."""
    runtime = get_runtime(app)
    monkeypatch.setitem(
        app.extensions, "useradd", replace(runtime, config=replace(runtime.config, api_keys_required=True))
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that keys are remembered by; `clock.passed` seconds later than it is."""
    clock = SimpleNamespace(passed=0.0)
    monkeypatch.setattr(service, "time", SimpleNamespace(monotonic=lambda: clock.passed))
    return clock


@pytest.fixture
def looked_up(app: Flask) -> Iterator[list[str]]:
    """Every question about keys that reaches PostgreSQL from now on."""
    questions: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        if "api_keys" in statement:
            questions.append(statement)

    with app.app_context():
        engines = list(db.engines.values())
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield questions
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


def bearer(key: str) -> dict[str, str]:
    """Return the header that brings a key."""
    return {"Authorization": f"Bearer {key}"}


# --- Creating users ---


def test_without_the_setting_nobody_needs_a_key_and_none_is_looked_at(
    client: FlaskClient, looked_up: list[str]
) -> None:
    answers = [useradd(client, ANNA).status_code, useradd(client, IVAN, headers=bearer("wrong")).status_code]

    assert answers == [201, 201]
    assert looked_up == []


@pytest.mark.usefixtures("required")
def test_with_the_setting_a_key_creates_users(client: FlaskClient, key: str) -> None:
    assert useradd(client, ANNA, headers=bearer(key)).status_code == 201


@pytest.mark.usefixtures("required")
@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic {}", "{}", "Bearer {}x", "Bearer é", "bearer {} x"]
)
def test_without_a_good_key_nothing_is_created_and_the_attempt_is_recorded(
    client: FlaskClient, key: str, rows: Rows, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header.format(key)}

    answer = useradd(client, ANNA, headers=headers)

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
    assert answer.mimetype == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert rows.of("users") == []
    assert rows.ends() == [(401, "unauthorized")]
    assert rows.attempts()[0]["sent"] == {}, "what a stranger sent is not even read"
    assert key not in str(rows.attempts())


@pytest.mark.usefixtures("required")
def test_a_session_is_no_key(app: Flask, client: FlaskClient, key: str) -> None:
    created = useradd(client, IVAN, headers=bearer(key)).json
    assert created is not None
    assert log_in(client, "petrov.ivan", created["password"]).status_code == 302

    assert useradd(client, ANNA).status_code == 401


@pytest.mark.usefixtures("required")
def test_other_refusals_stay_what_they_are(client: FlaskClient, key: str) -> None:
    assert client.get(ADDRESS).status_code == 405
    assert useradd(client, {}, headers=bearer(key)).status_code == 422


# --- Reading ---


@pytest.mark.parametrize("address", READABLE)
def test_a_key_reads_what_a_session_reads(client: FlaskClient, key: str, address: str) -> None:
    number = useradd(client, ANNA).headers["X-Request-Id"]

    answer = client.get(address.format(number), headers=bearer(key))

    assert (answer.status_code, answer.mimetype) == (200, "application/json")


@pytest.mark.parametrize("address", READABLE)
def test_a_wrong_key_or_none_reads_nothing(client: FlaskClient, key: str, address: str) -> None:
    number = useradd(client, ANNA).headers["X-Request-Id"]

    for headers in ({}, bearer("wrong"), bearer(key.upper()), {"Authorization": f"Basic {key}"}):
        answer = client.get(address.format(number), headers=headers)
        assert (answer.status_code, answer.mimetype) == (401, "application/problem+json")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("address", READABLE)
def test_a_wrong_key_is_told_even_beside_a_session(reader: FlaskClient, address: str, rows: Rows) -> None:
    number = rows.attempts()[0]["id"]

    assert reader.get(address.format(number)).status_code == 200
    assert reader.get(address.format(number), headers=bearer("wrong")).status_code == 401


@pytest.mark.parametrize(
    "address", ["/results/", "/results/export.csv", "/account/", "/admin/", "/api/v1/download-txt/"]
)
def test_a_key_opens_no_page_of_people(client: FlaskClient, key: str, address: str) -> None:
    assert client.get(address, headers=bearer(key)).status_code == 302


# --- Revoking, remembering, outages ---


def test_a_key_is_asked_for_once_in_some_seconds(
    client: FlaskClient, key: str, looked_up: list[str], clock: SimpleNamespace
) -> None:
    client.get(READABLE[0], headers=bearer(key))
    first = len(looked_up)
    for clock.passed in (1.0, 4.9):
        client.get(READABLE[0], headers=bearer(key))
    remembered = len(looked_up)

    clock.passed = 5.1
    client.get(READABLE[0], headers=bearer(key))

    assert (first, remembered) == (2, 2)  # the look-up, and the day of the last use
    assert len(looked_up) == 3


def test_a_wrong_key_is_never_remembered(client: FlaskClient, app: Flask, looked_up: list[str]) -> None:
    for _ in range(3):
        client.get(READABLE[0], headers=bearer("wrong"))

    assert len(looked_up) == 3
    assert get_runtime(app).api_keys._valid_until == {}


def test_a_revoked_key_opens_nothing_as_soon_as_it_is_forgotten(
    client: FlaskClient, key: str, rows: Rows, clock: SimpleNamespace
) -> None:
    was_good = client.get(READABLE[0], headers=bearer(key)).status_code == 200
    rows.ask("update api_keys set revoked_at = now()")

    clock.passed = service.CACHE_S + 0.1

    assert was_good
    assert client.get(READABLE[0], headers=bearer(key)).status_code == 401
    assert client.get(READABLE[0], headers=bearer(key)).status_code == 401


@pytest.mark.usefixtures("required")
def test_without_postgres_no_key_is_believed(client: FlaskClient, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Breaker, "is_open", True)

    answers = [useradd(client, ANNA, headers=bearer(key)), client.get(READABLE[0], headers=bearer(key))]

    assert [answer.status_code for answer in answers] == [503, 503]
    assert all("Retry-After" in answer.headers for answer in answers)


def test_the_day_of_the_last_use_is_kept(client: FlaskClient, key: str, rows: Rows) -> None:
    before = rows.of("api_keys")[0]["last_used"]

    client.get(READABLE[0], headers=bearer(key))

    assert before is None
    assert rows.ask("select last_used = (now() at time zone 'utc')::date as today from api_keys") == [{"today": True}]


def test_the_document_names_both_ways_in(client: FlaskClient) -> None:
    document = client.get("/openapi.json").json
    assert document is not None

    schemes = document["components"]["securitySchemes"]
    assert (schemes["key"]["type"], schemes["key"]["scheme"]) == ("http", "bearer")
    assert document["paths"]["/api/v1/useradd/"]["post"]["security"] == [{}, {"key": []}]
    assert "401" in document["paths"]["/api/v1/useradd/"]["post"]["responses"]
    for address in ("/api/v1/stats/", "/api/v1/attempts/"):
        assert document["paths"][address]["get"]["security"] == [{"session": []}, {"key": []}]
    assert document["paths"]["/results/export.csv"]["get"]["security"] == [{"session": []}]
