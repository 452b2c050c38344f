"""Statistics and files from a replica: how far behind it may be, who answers when it cannot, what must be exact."""

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

CAUGHT_UP_S = 10.0


@pytest.fixture(scope="module")
def primary(template: Postgres) -> Iterator[Postgres]:
    """A server that the tests of this module share."""
    primary = Postgres(template).start()
    yield primary
    primary.close()


@pytest.fixture(scope="module")
def shared_standby(primary: Postgres) -> Iterator[Postgres]:
    """Follows, and no COMMIT waits for it."""
    standby = primary.standby()
    primary.set("synchronous_standby_names", "")
    yield standby
    standby.close()


@pytest.fixture
def standby(shared_standby: Postgres, primary: Postgres) -> Iterator[Postgres]:
    """A replica that has everything; the test may do with it what it likes."""
    caught_up(primary, shared_standby)
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
    for way in (runtime.database, *runtime.read_database.members):
        way._engine.dispose()


@pytest.fixture
def reading(app: Flask) -> ReadDatabase:
    """The way of statistics to PostgreSQL."""
    return get_runtime(app).read_database


def caught_up(primary: Postgres, standby: Postgres) -> None:
    """Wait until the standby has all that the primary has."""
    [[lsn]] = primary.execute("select pg_current_wal_lsn()::text")
    has_it = "select pg_last_wal_replay_lsn() >= %s::pg_lsn"
    eventually(lambda: standby.execute(has_it, [lsn]) == [(True,)], CAUGHT_UP_S, "the standby does not follow")


def person(username: str) -> dict[str, str]:
    """Return what creates a user."""
    return {"name": "Anna", "username": username, "email": f"{username}@mail.example.org"}


def is_replica(connection: Connection) -> bool:
    """Tell who answers."""
    return bool(connection.execute(text("select pg_is_in_recovery()")).scalar())


def test_statistics_ask_the_replica_and_all_else_the_primary(app: Flask, reading: ReadDatabase) -> None:
    assert reading.read_transaction(is_replica)
    assert not reading.primary.read_transaction(is_replica)
    assert not get_runtime(app).database.read_transaction(is_replica)


def test_who_has_just_been_answered_finds_his_attempt(
    app: Flask, reading: ReadDatabase, standby: Postgres, primary: Postgres
) -> None:
    credentials = useradd(app.test_client(), IVAN).json
    assert credentials
    caught_up(primary, standby)
    client = app.test_client()
    log_in(client, credentials["login"], credentials["password"])
    standby.execute("select pg_wal_replay_pause()")

    answer = useradd(client, ANNA).json
    assert answer

    assert client.get(f"/results/{answer['attempt_id']}/").status_code == 200
    assert client.get(f"/api/v1/attempts/{answer['attempt_id']}/").status_code == 200


def test_a_replica_that_lags_says_so_and_one_that_lags_too_far_is_passed_over(
    app: Flask, reading: ReadDatabase, primary: Postgres, standby: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    useradd(app.test_client(), person("leading"))
    caught_up(primary, standby)
    standby.execute("select pg_wal_replay_pause()")
    useradd(app.test_client(), person("lagging"))
    monkeypatch.setattr(replica, "LOOK_EVERY_S", 0)

    near = reading.read_transaction(is_replica)
    lag_s = reading.lag_s
    monkeypatch.setattr(replica, "FAR_S", 0)

    assert near
    assert lag_s > 0
    assert not reading.read_transaction(is_replica)
    assert reading.lag_s == 0


@pytest.mark.parametrize(("lag_s", "told"), [(0.4, ""), (7.2, "7 seconds behind"), (float("inf"), "behind")])
def test_the_results_page_tells_of_a_lag_that_matters(
    app: Flask, monkeypatch: pytest.MonkeyPatch, lag_s: float, told: str
) -> None:
    credentials = useradd(app.test_client(), person(f"reader{lag_s}".replace(".", ""))).json
    assert credentials
    client = app.test_client()
    log_in(client, credentials["login"], credentials["password"])
    for name in ("lag_s", "replica_lag_s"):
        monkeypatch.setattr(ReadDatabase, name, property(lambda _: lag_s, lambda *_: None))

    page = client.get("/results/?lang=en").text

    assert told in page
    assert ("replica" in page) == bool(told)
    assert client.get("/status").json["replica"] == {  # type: ignore[index]
        "state": "up",
        "lag_s": None if lag_s == float("inf") else lag_s,
    }
    get_runtime(app).metrics.update()
    assert f"useradd_replica_lag_seconds {lag_s}".lower() in client.get("/metrics").text.lower()


def test_without_its_replica_the_primary_answers_and_later_the_replica_again(
    app: Flask, reading: ReadDatabase, standby: Postgres
) -> None:
    assert reading.read_transaction(is_replica)
    standby.stop()

    answered = [reading.read_transaction(is_replica) for _ in range(3)]
    away = reading.replica
    assert away
    was_open = away.breaker.is_open
    standby.start()
    get_runtime(app).upkeep.run_round()

    assert answered == [False] * 3
    assert was_open
    assert reading.read_transaction(is_replica)


def test_a_frozen_replica_costs_no_answer(app: Flask, reading: ReadDatabase, standby: Postgres) -> None:
    assert reading.read_transaction(is_replica)
    standby.freeze()
    try:
        assert not reading.read_transaction(is_replica)
        assert not reading.read_transaction(is_replica)
    finally:
        standby.thaw()


def exported(reading: ReadDatabase, report: Report) -> int:
    """Return how many lines a file of this picture has."""
    return sum(block.rows for block in reports.iter_blocks(reading, report, csv.layout(report), size=7))


def test_a_file_is_exact_however_far_behind_the_replica_is(
    app: Flask, reading: ReadDatabase, primary: Postgres, standby: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    ask = replica._read_query

    def noting(connection: Connection, *args: Any) -> list[Row]:
        found = ask(connection, *args)
        asked.append(is_replica(connection))
        return found

    standby.execute("select pg_wal_replay_pause()")
    for number in range(20):
        useradd(app.test_client(), person(f"file{number}"))
    [[there]] = primary.execute("select count(*) from attempts")

    begun = reports.open_export(reading, AttemptFilter(), ZoneInfo("UTC"), datetime.now(UTC))
    report = reports.count_export(reading, begun)
    lines = exported(reading, report)
    standby.execute("select pg_wal_replay_resume()")
    caught_up(primary, standby)
    monkeypatch.setattr(replica, "_read_query", noting)
    again = exported(reading, report)

    assert report.total == lines == again == there
    assert asked
    assert all(asked)


@pytest.fixture
def hasty(primary: Postgres, standby: Postgres) -> Iterator[Postgres]:
    """A replica that keeps nothing for those who still read it."""
    primary.execute("create table fleeting as select generate_series(1, 1000) as n")
    standby.set("max_standby_streaming_delay", "0")
    caught_up(primary, standby)
    yield standby
    standby.set("max_standby_streaming_delay", "30s")
    primary.execute("drop table fleeting")


def test_a_question_that_stands_in_the_way_of_the_log_is_asked_again(
    reading: ReadDatabase, primary: Postgres, hasty: Postgres
) -> None:
    """PostgreSQL cancels it (40001) when the primary has removed rows that it may still see."""
    tries: list[bool] = []

    def remove() -> None:
        running = "select true from pg_stat_activity where state = 'active' and query like 'select pg_sleep%%'"
        eventually(lambda: hasty.execute(running), CAUGHT_UP_S, "nobody asks")
        vanish(primary)
        caught_up(primary, hasty)

    def slow(connection: Connection) -> bool:
        if tries:
            removed.result()  # rows that vanish are many records of the log, and each stands in the way
        tries.append(is_replica(connection))
        connection.execute(text("select count(*) from fleeting"))
        connection.execute(text("select pg_sleep(:long)"), {"long": 0 if tries[1:] else 1.9})
        return True

    with ThreadPoolExecutor(1) as other:
        removed = other.submit(remove)
        assert reading.read_transaction(slow)

    assert tries == [True, True]


def test_a_question_whose_session_the_log_has_ended_is_answered_by_the_primary(
    reading: ReadDatabase, primary: Postgres, hasty: Postgres
) -> None:
    """PostgreSQL cannot cancel what rests inside its transaction: it ends the session."""
    tries: list[bool] = []

    def resting(connection: Connection) -> int:
        tries.append(is_replica(connection))
        found = connection.execute(text("select count(*) from fleeting")).scalar_one()
        if tries == [True]:
            vanish(primary)
            caught_up(primary, hasty)
        return int(found + connection.execute(text("select count(*) from fleeting")).scalar_one())

    assert reading.read_transaction(resting) == 0
    assert tries == [True, False]


def vanish(primary: Postgres) -> None:
    """Remove rows so thoroughly that nobody can see them any more."""
    primary.execute("delete from fleeting")
    primary.execute("vacuum fleeting")
