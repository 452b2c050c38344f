"""F43 to F46: statistics and exports from a replica.

Covers the permitted lag, the fallback to the primary, and exact exports.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from sqlalchemy import Connection, text

from config import Config
from project import create_app
from project.database import ReadDatabase, Row, replica
from project.domain.attempts import AttemptFilter
from project.domain.reports import Report
from project.exporters import csv
from project.runtime import get_runtime
from project.services import reports
from tests.builders import ANNA, IVAN, log_in, useradd
from tests.chaos.postgres import Postgres
from tests.chaos.processes import eventually
from tests.unit.test_exporters import ENGLISH_TRANSLATIONS

CAUGHT_UP_S = 10.0


@pytest.fixture(scope="module")
def primary(template: Postgres) -> Iterator[Postgres]:
    """A primary that the tests of this module share."""
    primary = Postgres(template).start()
    yield primary
    primary.close()


@pytest.fixture(scope="module")
def shared_standby(primary: Postgres) -> Iterator[Postgres]:
    """An asynchronous standby."""
    standby = primary.start_standby()
    primary.change_setting("synchronous_standby_names", "")
    yield standby
    standby.close()


@pytest.fixture
def standby(shared_standby: Postgres, primary: Postgres) -> Iterator[Postgres]:
    """A replica without lag; its state is restored after the test."""
    await_replay(primary, shared_standby)
    yield shared_standby
    for server in (primary, shared_standby):
        if not server.is_running():
            server.start()
    shared_standby.execute("select pg_wal_replay_resume()")


@pytest.fixture
def app(primary: Postgres, standby: Postgres, tmp_path: Path) -> Iterator[Flask]:
    """The service with a replica."""
    urls = {"DATABASE_URL": primary.url(), "DATABASE_READ_URL": standby.url()}
    app = create_app(Config.from_environment(urls | {"DATA_DIR": str(tmp_path)}))
    yield app
    runtime = get_runtime(app)
    runtime.stop()
    for database in (runtime.database, *runtime.read_database.databases):
        database._engine.dispose()


@pytest.fixture
def read_database(app: Flask) -> ReadDatabase:
    """The database that statistics read from."""
    return get_runtime(app).read_database


def await_replay(primary: Postgres, standby: Postgres) -> None:
    """Wait until the standby has replayed all WAL of the primary."""
    [[lsn]] = primary.execute("select pg_current_wal_lsn()::text")
    has_replayed = "select pg_last_wal_replay_lsn() >= %s::pg_lsn"
    eventually(lambda: standby.execute(has_replayed, [lsn]) == [(True,)], CAUGHT_UP_S, "the standby does not replicate")


def person(username: str) -> dict[str, str]:
    """Return the body of a request that creates a user."""
    return {"name": "Anna", "username": username, "email": f"{username}@mail.example.org"}


def is_replica(connection: Connection) -> bool:
    """Return whether the connection's server is a replica."""
    return bool(connection.execute(text("select pg_is_in_recovery()")).scalar())


def test_statistics_query_the_replica_and_all_else_the_primary(app: Flask, read_database: ReadDatabase) -> None:
    assert read_database.read_transaction(is_replica)
    assert not read_database.primary.read_transaction(is_replica)
    assert not get_runtime(app).database.read_transaction(is_replica)


def test_a_client_can_read_its_attempt_immediately_after_the_response(
    app: Flask, read_database: ReadDatabase, standby: Postgres, primary: Postgres
) -> None:
    credentials = useradd(app.test_client(), IVAN).json
    assert credentials
    await_replay(primary, standby)
    client = app.test_client()
    log_in(client, credentials["login"], credentials["password"])
    standby.execute("select pg_wal_replay_pause()")

    answer = useradd(client, ANNA).json
    assert answer

    assert client.get(f"/results/{answer['attempt_id']}/").status_code == 200
    assert client.get(f"/api/v1/attempts/{answer['attempt_id']}/").status_code == 200


def test_the_lag_of_a_replica_is_reported_and_one_that_lags_too_far_is_not_used(
    app: Flask, read_database: ReadDatabase, primary: Postgres, standby: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    useradd(app.test_client(), person("leading"))
    await_replay(primary, standby)
    standby.execute("select pg_wal_replay_pause()")
    useradd(app.test_client(), person("lagging"))
    monkeypatch.setattr(replica, "LSN_MAX_AGE_S", 0)

    near = read_database.read_transaction(is_replica)
    lag_s = read_database.lag_s
    monkeypatch.setattr(replica, "MAX_LAG_S", 0)

    assert near
    assert lag_s > 0
    assert not read_database.read_transaction(is_replica)
    assert read_database.lag_s == 0


@pytest.mark.parametrize(("lag_s", "note"), [(0.4, ""), (7.2, "7 seconds behind"), (float("inf"), "lag unknown")])
def test_the_results_page_shows_a_significant_replica_lag(
    app: Flask, monkeypatch: pytest.MonkeyPatch, lag_s: float, note: str
) -> None:
    credentials = useradd(app.test_client(), person(f"reader{lag_s}".replace(".", ""))).json
    assert credentials
    client = app.test_client()
    log_in(client, credentials["login"], credentials["password"])
    for name in ("lag_s", "replica_lag_s"):
        monkeypatch.setattr(ReadDatabase, name, property(lambda _: lag_s, lambda *_: None))

    page = client.get("/results/?lang=en").text

    assert note in page
    assert ("replica" in page) == bool(note)
    assert client.get("/status").json["replica"] == {  # type: ignore[index]
        "state": "up",
        "lag_s": None if lag_s == float("inf") else lag_s,
    }
    get_runtime(app).metrics.update()
    assert f"useradd_replica_lag_seconds {lag_s}".lower() in client.get("/metrics").text.lower()


def test_the_primary_answers_while_the_replica_is_unavailable(
    app: Flask, read_database: ReadDatabase, standby: Postgres
) -> None:
    assert read_database.read_transaction(is_replica)
    standby.stop()

    from_replica = [read_database.read_transaction(is_replica) for _ in range(3)]
    stopped = read_database.replica
    assert stopped
    was_open = stopped.breaker.is_open
    standby.start()
    get_runtime(app).upkeep.run_round()

    assert from_replica == [False] * 3
    assert was_open
    assert read_database.read_transaction(is_replica)


def test_the_primary_answers_while_the_replica_is_frozen(
    app: Flask, read_database: ReadDatabase, standby: Postgres
) -> None:
    assert read_database.read_transaction(is_replica)
    standby.freeze()
    try:
        assert not read_database.read_transaction(is_replica)
        assert not read_database.read_transaction(is_replica)
    finally:
        standby.thaw()


def add_export_countsed(read_database: ReadDatabase, report: Report) -> int:
    """Return the number of rows in an export of this report."""
    return sum(
        block.rows
        for block in reports.iter_blocks(read_database, report, csv.layout(report, ENGLISH_TRANSLATIONS), size=7)
    )


def test_an_export_is_complete_however_far_the_replica_lags(
    app: Flask, read_database: ReadDatabase, primary: Postgres, standby: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_replica: list[bool] = []
    read_query = replica._read_query

    def record_source(connection: Connection, *args: Any) -> list[Row]:
        rows = read_query(connection, *args)
        from_replica.append(is_replica(connection))
        return rows

    standby.execute("select pg_wal_replay_pause()")
    for number in range(20):
        useradd(app.test_client(), person(f"file{number}"))
    [[recorded]] = primary.execute("select count(*) from attempts")

    started = reports.open_export(read_database, AttemptFilter(), ZoneInfo("UTC"), datetime.now(UTC))
    report = reports.add_export_counts(read_database, started)
    lines = add_export_countsed(read_database, report)
    standby.execute("select pg_wal_replay_resume()")
    await_replay(primary, standby)
    monkeypatch.setattr(replica, "_read_query", record_source)
    again = add_export_countsed(read_database, report)

    assert report.total == lines == again == recorded
    assert from_replica
    assert all(from_replica)


@pytest.fixture
def impatient_standby(primary: Postgres, standby: Postgres) -> Iterator[Postgres]:
    """A replica that cancels conflicting queries at once (max_standby_streaming_delay = 0)."""
    primary.execute("create table short_lived as select generate_series(1, 1000) as n")
    standby.change_setting("max_standby_streaming_delay", "0")
    await_replay(primary, standby)
    yield standby
    standby.change_setting("max_standby_streaming_delay", "30s")
    primary.execute("drop table short_lived")


def test_a_query_cancelled_by_a_recovery_conflict_is_retried(
    read_database: ReadDatabase, primary: Postgres, impatient_standby: Postgres
) -> None:
    """PostgreSQL cancels a query (40001) whose rows the primary has vacuumed."""
    tries: list[bool] = []

    def remove() -> None:
        running = "select true from pg_stat_activity where state = 'active' and query like 'select pg_sleep%%'"
        eventually(lambda: impatient_standby.execute(running), CAUGHT_UP_S, "no query is running")
        delete_and_vacuum(primary)
        await_replay(primary, impatient_standby)

    def slow_query(connection: Connection) -> bool:
        if tries:
            removed.result()  # the deletion writes many WAL records, each of which conflicts with the query
        tries.append(is_replica(connection))
        connection.execute(text("select count(*) from short_lived"))
        connection.execute(text("select pg_sleep(:seconds)"), {"seconds": 0 if tries[1:] else 1.9})
        return True

    with ThreadPoolExecutor(1) as executor:
        removed = executor.submit(remove)
        assert read_database.read_transaction(slow_query)

    assert tries == [True, True]


def test_a_query_whose_session_a_recovery_conflict_has_ended_is_answered_by_the_primary(
    read_database: ReadDatabase, primary: Postgres, impatient_standby: Postgres
) -> None:
    """PostgreSQL cannot cancel a transaction between two queries: it ends the session."""
    tries: list[bool] = []

    def two_queries(connection: Connection) -> int:
        tries.append(is_replica(connection))
        found = connection.execute(text("select count(*) from short_lived")).scalar_one()
        if tries == [True]:
            delete_and_vacuum(primary)
            await_replay(primary, impatient_standby)
        return int(found + connection.execute(text("select count(*) from short_lived")).scalar_one())

    assert read_database.read_transaction(two_queries) == 0
    assert tries == [True, False]


def delete_and_vacuum(primary: Postgres) -> None:
    """Delete the rows and vacuum the table."""
    primary.execute("delete from short_lived")
    primary.execute("vacuum short_lived")
