"""API keys: what they allow, how they are cached, and that outages give no access."""

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
        return service.issue_key(get_runtime(app).database, "a program", by=None).key


@pytest.fixture
def required(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is required to create users."""
    runtime = get_runtime(app)
    monkeypatch.setitem(
        app.extensions, "useradd", replace(runtime, config=replace(runtime.config, api_keys_required=True))
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of the key cache, `clock.passed` seconds after its start."""
    clock = SimpleNamespace(passed=0.0)
    monkeypatch.setattr(service, "time", SimpleNamespace(monotonic=lambda: clock.passed))
    return clock


@pytest.fixture
def key_queries(app: Flask) -> Iterator[list[str]]:
    """The queries on keys that have reached PostgreSQL since the start of the test."""
    queries: list[str] = []

    def record(_: object, __: object, statement: str, *___: object) -> None:
        if "api_keys" in statement:
            queries.append(statement)

    with app.app_context():
        engines = list(db.engines.values())
    for engine in engines:
        event.listen(engine, "before_cursor_execute", record)
    yield queries
    for engine in engines:
        event.remove(engine, "before_cursor_execute", record)


def bearer(key: str) -> dict[str, str]:
    """Return the header of a key."""
    return {"Authorization": f"Bearer {key}"}


# --- Creating users ---


def test_without_the_setting_keys_are_neither_required_nor_checked(client: FlaskClient, key_queries: list[str]) -> None:
    answers = [useradd(client, ANNA).status_code, useradd(client, IVAN, headers=bearer("wrong")).status_code]

    assert answers == [201, 201]
    assert key_queries == []


@pytest.mark.usefixtures("required")
def test_with_the_setting_users_can_be_created_with_a_key(client: FlaskClient, key: str) -> None:
    assert useradd(client, ANNA, headers=bearer(key)).status_code == 201


@pytest.mark.usefixtures("required")
@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic {}", "{}", "Bearer {}x", "Bearer é", "bearer {} x"]
)
def test_without_a_valid_key_nothing_is_created_and_the_attempt_is_recorded(
    client: FlaskClient, key: str, rows: Rows, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header.format(key)}

    answer = useradd(client, ANNA, headers=headers)

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
    assert answer.mimetype == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert rows.of("users") == []
    assert rows.outcomes() == [(401, "unauthorized")]
    assert rows.attempts()[0]["sent"] == {}, "the body of an unauthorized client is not read"
    assert key not in str(rows.attempts())


@pytest.mark.usefixtures("required")
def test_a_session_does_not_replace_a_key(app: Flask, client: FlaskClient, key: str) -> None:
    created = useradd(client, IVAN, headers=bearer(key)).json
    assert created is not None
    assert log_in(client, "petrov.ivan", created["password"]).status_code == 302

    assert useradd(client, ANNA).status_code == 401


@pytest.mark.usefixtures("required")
def test_other_refusals_are_unchanged(client: FlaskClient, key: str) -> None:
    assert client.get(ADDRESS).status_code == 405
    assert useradd(client, {}, headers=bearer(key)).status_code == 422


# --- Reading ---


@pytest.mark.parametrize("address", READABLE)
def test_a_key_can_read_the_same_addresses_as_a_session(client: FlaskClient, key: str, address: str) -> None:
    attempt_id = useradd(client, ANNA).headers["X-Request-Id"]

    answer = client.get(address.format(attempt_id), headers=bearer(key))

    assert (answer.status_code, answer.mimetype) == (200, "application/json")


@pytest.mark.parametrize("address", READABLE)
def test_a_wrong_or_missing_key_cannot_read(client: FlaskClient, key: str, address: str) -> None:
    attempt_id = useradd(client, ANNA).headers["X-Request-Id"]

    for headers in ({}, bearer("wrong"), bearer(key.upper()), {"Authorization": f"Basic {key}"}):
        answer = client.get(address.format(attempt_id), headers=headers)
        assert (answer.status_code, answer.mimetype) == (401, "application/problem+json")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("address", READABLE)
def test_a_wrong_key_is_refused_even_with_a_session(reader: FlaskClient, address: str, rows: Rows) -> None:
    attempt_id = rows.attempts()[0]["id"]

    assert reader.get(address.format(attempt_id)).status_code == 200
    assert reader.get(address.format(attempt_id), headers=bearer("wrong")).status_code == 401


@pytest.mark.parametrize("address", ["/results/", "/account/", "/admin/"])
def test_a_key_gives_no_access_to_pages(client: FlaskClient, key: str, address: str) -> None:
    assert client.get(address, headers=bearer(key)).status_code == 302


# --- Revoking, caching, outages ---


def test_a_valid_key_is_cached_for_some_seconds(
    client: FlaskClient, key: str, key_queries: list[str], clock: SimpleNamespace
) -> None:
    client.get(READABLE[0], headers=bearer(key))
    first = len(key_queries)
    for clock.passed in (1.0, 4.9):
        client.get(READABLE[0], headers=bearer(key))
    cached = len(key_queries)

    clock.passed = 5.1
    client.get(READABLE[0], headers=bearer(key))

    assert (first, cached) == (1, 1)
    assert len(key_queries) == 2


def test_a_wrong_key_is_never_cached(client: FlaskClient, app: Flask, key_queries: list[str]) -> None:
    for _ in range(3):
        client.get(READABLE[0], headers=bearer("wrong"))

    assert len(key_queries) == 3
    assert get_runtime(app).api_keys._cache == {}


def test_a_revoked_key_is_refused_as_soon_as_its_cache_entry_expires(
    client: FlaskClient, key: str, rows: Rows, clock: SimpleNamespace
) -> None:
    was_valid = client.get(READABLE[0], headers=bearer(key)).status_code == 200
    rows.query("update api_keys set revoked_at = now()")

    clock.passed = service.CACHE_S + 0.1

    assert was_valid
    assert client.get(READABLE[0], headers=bearer(key)).status_code == 401
    assert client.get(READABLE[0], headers=bearer(key)).status_code == 401


@pytest.mark.usefixtures("required")
def test_without_postgresql_no_key_is_accepted(client: FlaskClient, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Breaker, "is_open", True)

    answers = [useradd(client, ANNA, headers=bearer(key)), client.get(READABLE[0], headers=bearer(key))]

    assert [answer.status_code for answer in answers] == [503, 503]
    assert all("Retry-After" in answer.headers for answer in answers)


def test_the_last_use_is_written_later_and_at_most_once_a_minute(
    client: FlaskClient, app: Flask, key: str, rows: Rows
) -> None:
    activity = get_runtime(app).activity
    times = []
    for _ in range(3):
        activity._use_written_at.clear()  # like another process
        client.get(READABLE[0], headers=bearer(key))
        times.append(rows.of("api_keys")[0]["last_used_at"])
        activity.flush()

    assert times[0] is None
    assert times[1] == times[2]
    query = """select last_used_at between now() - interval '1 minute' and now()
                  and last_used = (last_used_at at time zone 'UTC')::date as is_recent from api_keys"""
    assert rows.query(query) == [{"is_recent": True}]
    rows.query("update api_keys set last_used_at = now() - interval '61 seconds'")
    activity._use_written_at.clear()
    client.get(READABLE[0], headers=bearer(key))
    activity.flush()
    assert rows.query(query) == [{"is_recent": True}]


def test_a_process_notes_a_use_at_most_once_a_minute(
    client: FlaskClient, app: Flask, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []
    monkeypatch.setattr("project.services.activity.save_activity", lambda _, __, ___, uses: written.append(uses))
    for _ in range(3):
        client.get(READABLE[0], headers=bearer(key))
        get_runtime(app).activity.flush()

    assert len(written) == 1


def test_the_openapi_document_describes_both_ways_to_authenticate(client: FlaskClient) -> None:
    document = client.get("/openapi.json").json
    assert document is not None

    schemes = document["components"]["securitySchemes"]
    assert (schemes["key"]["type"], schemes["key"]["scheme"]) == ("http", "bearer")
    assert document["paths"]["/api/v1/useradd/"]["post"]["security"] == [{}, {"key": []}]
    assert "401" in document["paths"]["/api/v1/useradd/"]["post"]["responses"]
    for address in ("/api/v1/stats/", "/api/v1/attempts/"):
        assert document["paths"][address]["get"]["security"] == [{"key": []}, {"session": []}]
    assert document["paths"]["/results/export.csv"]["get"]["security"] == [{"key": []}, {"session": []}]
