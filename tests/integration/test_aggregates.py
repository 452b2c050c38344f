"""Counts made beforehand and what is counted as it is add up to exactly what is in the table, at every moment."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from sqlalchemy import Connection, text

from project.database import Database
from project.domain.attempts import AttemptFilter, Outcome
from project.domain.errors import DatabaseUnavailableError
from project.queries import counts, snapshots
from project.queries.aggregates import aggregate, prune
from project.runtime import Runtime
from project.services import reports
from tests.conftest import Rows
from tests.functional.attempts import keep, keep_all, record

START = datetime(2026, 3, 9, 9, 20, tzinfo=UTC)
ENDS = (
    (201, "created"),
    (422, "invalid_phone"),
    (409, "username_taken"),
    (503, "database_unavailable"),
    (0, "interrupted"),
)
ZONE = ZoneInfo("Europe/Moscow")
FILTERS = [
    AttemptFilter(),
    AttemptFilter(since=START + timedelta(hours=5, minutes=7)),
    AttemptFilter(until=START + timedelta(hours=20, minutes=59, seconds=3)),
    AttemptFilter(since=START + timedelta(minutes=1), until=START + timedelta(minutes=33)),
    AttemptFilter(since=START + timedelta(minutes=1), until=START + timedelta(minutes=61)),
    AttemptFilter(since=START + timedelta(hours=3, minutes=40), until=START + timedelta(hours=30, minutes=40)),
    AttemptFilter(outcomes=frozenset({Outcome.REJECTED, Outcome.FAILED}), since=START + timedelta(hours=2)),
    AttemptFilter(codes=frozenset({"username_taken"})),
    AttemptFilter(statuses=frozenset({201, 503}), until=START + timedelta(hours=40)),
    AttemptFilter(text="some"),
    AttemptFilter(client_address="10.20.3.14", statuses=frozenset({201})),
    AttemptFilter(client_program="REQUESTS"),
]


@pytest.fixture
def attempts(app: Flask, runtime: Runtime) -> Flask:
    """Attempts of all ends over two days, in no order of time, as late drains bring them."""
    chance = random.Random(8)  # noqa: S311 - sample data
    records = []
    for _ in range(300):
        status, code = chance.choice(ENDS)
        at = START + timedelta(minutes=chance.uniform(0, 2900))
        records.append(record(at, status=status, code=code, duration_ms=round(chance.lognormvariate(3, 1.5))))
    keep_all(app, records)
    return app


def count(runtime: Runtime, least: int = 1, most: int = 100_000) -> int:
    """Count beforehand what there is to count."""
    return runtime.database.write_transaction(aggregate, least, most).done


def numbers(runtime: Runtime, chosen: AttemptFilter, zone: ZoneInfo = ZONE) -> dict[str, Any]:
    """Return every number that depends on counts."""
    report = reports.build_report(runtime.read_database, chosen, zone, START + timedelta(days=3))
    return {
        "total": reports.count_attempts(runtime.read_database, chosen),
        "status": report.by_status,
        "code": report.by_code,
        "series": report.series,
        "since": report.since,
        "durations": report.durations,
    }


@pytest.mark.parametrize("chosen", FILTERS, ids=range(len(FILTERS)))
def test_numbers_are_the_same_however_much_is_counted_beforehand(
    attempts: Flask, runtime: Runtime, chosen: AttemptFilter
) -> None:
    as_they_are = numbers(runtime, chosen)
    assert as_they_are["total"] > 0

    assert count(runtime, most=100) == 100
    assert numbers(runtime, chosen) == as_they_are
    assert count(runtime) == 200
    assert numbers(runtime, chosen) == as_they_are


@pytest.mark.parametrize(
    "zone", ["Asia/Kathmandu", "Pacific/Marquesas", "Australia/Lord_Howe", "Africa/Monrovia", "UTC"]
)
def test_columns_are_exact_in_zones_that_are_off_by_less_than_an_hour(
    attempts: Flask, runtime: Runtime, zone: str
) -> None:
    day = START.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0) + timedelta(days=1)
    choices = [AttemptFilter(), AttemptFilter(since=day), AttemptFilter(since=day, until=day + timedelta(days=1))]
    as_they_are = [numbers(runtime, chosen, ZoneInfo(zone)) for chosen in choices]

    count(runtime)

    assert [numbers(runtime, chosen, ZoneInfo(zone)) for chosen in choices] == as_they_are


def test_percentiles_are_those_of_all_attempts_and_at_most_a_tenth_too_high(
    attempts: Flask, runtime: Runtime, rows: Rows
) -> None:
    spread = "percentile_disc(array[0.5, 0.95, 0.99]) within group (order by duration_ms)"
    [exact] = [row["ms"] for row in rows.ask(f"select {spread} as ms from attempts")]  # noqa: S608 - a text of our own

    count(runtime, most=200)

    found = numbers(runtime, AttemptFilter())["durations"]
    for shown, true in zip((found.p50, found.p95, found.p99), exact, strict=True):
        assert true <= shown <= 1.1 * true


def test_what_comes_later_is_counted_too_and_late_drains_into_their_own_hour(
    attempts: Flask, runtime: Runtime, rows: Rows
) -> None:
    count(runtime)
    keep(attempts, START, status=503, code="overloaded")
    before = numbers(runtime, AttemptFilter())

    count(runtime)

    assert numbers(runtime, AttemptFilter()) == before
    found = rows.ask("select grain, at, number from attempt_counts where code = 'overloaded'")
    assert {(row["grain"], row["at"], row["number"]) for row in found} == {
        ("15min", datetime(2026, 3, 9, 9, 15, tzinfo=UTC), 1),
        ("hour", datetime(2026, 3, 9, 9, tzinfo=UTC), 1),
        ("day", datetime(2026, 3, 9, tzinfo=UTC), 1),
        ("month", datetime(2026, 3, 1, tzinfo=UTC), 1),
    }


def test_a_picture_stays_closed_when_more_is_counted(attempts: Flask, runtime: Runtime) -> None:
    newest = runtime.read_database.read_transaction(snapshots.find_last_seq)
    chosen = AttemptFilter(max_seq=newest)
    before = numbers(runtime, chosen)
    for _ in range(5):
        keep(attempts, START + timedelta(hours=1))

    count(runtime)

    assert numbers(runtime, chosen)["total"] == before["total"] == 300
    assert numbers(runtime, AttemptFilter())["total"] == 305


def test_few_attempts_are_not_worth_it(attempts: Flask, runtime: Runtime, rows: Rows) -> None:
    waiting = len(rows.attempts())

    assert runtime.database.write_transaction(aggregate, 1000, 100_000) == (0, waiting)
    assert rows.of("attempt_counts") == []


def test_a_job_that_is_killed_has_counted_nothing(attempts: Flask, runtime: Runtime) -> None:
    def die(connection: Connection) -> None:
        aggregate(connection, 1, 100_000)
        connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))

    before = numbers(runtime, AttemptFilter())
    with pytest.raises(DatabaseUnavailableError):
        runtime.database.run_once(die)

    assert numbers(runtime, AttemptFilter()) == before
    assert count(runtime) == 300


def test_two_jobs_at_once_count_nothing_twice(attempts: Flask, runtime: Runtime) -> None:
    before = numbers(runtime, AttemptFilter())
    threads = [threading.Thread(target=count, args=(runtime,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count(runtime)

    assert numbers(runtime, AttemptFilter()) == before


def test_a_writer_who_drew_his_number_early_and_commits_late_is_not_missed(
    attempts: Flask, runtime: Runtime, rows: Rows
) -> None:
    """Numbers of a sequence are no order of commits: the job has to wait for him, or to come back."""
    drawn, commit = threading.Event(), threading.Event()

    def write_slowly(connection: Connection) -> None:
        connection.execute(text(_COPY))
        drawn.set()
        assert commit.wait(10)

    writer = threading.Thread(target=runtime.database.write_transaction, args=(write_slowly,))
    writer.start()
    assert drawn.wait(10)
    keep(attempts, START)

    assert count(runtime) == 0
    commit.set()
    writer.join()
    assert count(runtime) == 302

    assert (
        reports.count_attempts(runtime.read_database, AttemptFilter())
        == rows.ask("select count(*) n from attempts")[0]["n"]
    )


def test_a_vacuum_does_not_stop_the_counting(attempts: Flask, runtime: Runtime) -> None:
    """It may take minutes, and holds this lock all the time."""

    def count_meanwhile(connection: Connection) -> int:
        connection.execute(text("lock table attempts in share update exclusive mode"))
        return count(runtime)

    assert runtime.database.write_transaction(count_meanwhile) == 300


def test_with_many_writers_each_count_is_exact(attempts: Flask, runtime: Runtime) -> None:
    """Even while old attempts are forgotten, and more of them arrive."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            runtime.database.write_transaction(lambda connection: connection.execute(text(_COPY)))

    def write_old() -> None:
        while not stop.is_set():
            runtime.database.write_transaction(lambda connection: connection.execute(text(_OLD)))

    def count() -> None:
        while not stop.is_set():
            _try_to(runtime.database, aggregate, 1, 50)

    def forget() -> None:
        while not stop.is_set():
            _try_to(runtime.database, prune, START, 20)

    threads = [threading.Thread(target=work) for work in (write, write, write_old, count, forget)]
    for thread in threads:
        thread.start()
    try:
        checked = [runtime.read_database.read_transaction(_both) for _ in range(60)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert [pair for pair in checked if pair[0] != pair[1]] == []
    assert len({pair[0].total() for pair in checked}) > 5


_INSERT = """
    insert into attempts (
        id, received_at, status, answered, code, method, duration_ms, language, client_address, user_agent
    )
    select {id}, {received_at}, 201, 201, 'created', 'POST', 1, 'en', '', ''
"""
_COPY = _INSERT.format(id="overlay(gen_random_uuid()::text placing 'f' from 1)::uuid", received_at="now()")
_OLD = _INSERT.format(
    id="overlay(gen_random_uuid()::text placing '00000000' from 1)::uuid", received_at="to_timestamp(0)"
)


def _both(connection: Connection) -> tuple[Counter[int], Counter[int]]:
    """Return the counts of one snapshot in two ways."""
    plain = connection.execute(text("select status, count(*) from attempts group by status"))
    return (
        Counter({row.status: row.count for row in plain}),
        Counter({row.status: row.count for row in counts.count_kinds(connection, AttemptFilter()).by_status()}),
    )


def _try_to(database: Database, work: Callable[..., object], *args: object) -> None:
    try:
        database.run_once(work, *args)
    except DatabaseUnavailableError:
        return
