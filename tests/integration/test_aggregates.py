"""Aggregates and rows counted directly always add up to the exact contents of the table."""

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
from project.queries.aggregates import aggregate_attempts, prune_attempts
from project.runtime import Runtime
from project.services import reports
from tests.conftest import Rows
from tests.functional.attempts import keep, keep_all, record

pytestmark = pytest.mark.slow  # aggregates beside writers

START = datetime(2026, 3, 9, 9, 20, tzinfo=UTC)
OUTCOMES = (
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
    """Attempts of all outcomes over two days, in random order of time, as after late drains."""
    chance = random.Random(8)  # noqa: S311 - sample data
    records = []
    for _ in range(300):
        status, code = chance.choice(OUTCOMES)
        at = START + timedelta(minutes=chance.uniform(0, 2900))
        records.append(record(at, status=status, code=code, duration_ms=round(chance.lognormvariate(3, 1.5))))
    keep_all(app, records)
    return app


def count(runtime: Runtime, least: int = 1, most: int = 100_000) -> int:
    """Aggregate the attempts that are not aggregated yet."""
    return runtime.database.write_transaction(aggregate_attempts, least, most).aggregated


def statistics(runtime: Runtime, attempt_filter: AttemptFilter, zone: ZoneInfo = ZONE) -> dict[str, Any]:
    """Return every statistic that depends on aggregates."""
    report = reports.build_report(runtime.read_database, attempt_filter, zone, START + timedelta(days=3))
    return {
        "total": reports.count_attempts(runtime.read_database, attempt_filter),
        "status": report.by_status,
        "code": report.by_code,
        "series": report.series,
        "since": report.since,
        "durations": report.durations,
    }


@pytest.mark.parametrize("attempt_filter", FILTERS, ids=range(len(FILTERS)))
def test_statistics_are_the_same_however_many_attempts_are_aggregated(
    attempts: Flask, runtime: Runtime, attempt_filter: AttemptFilter
) -> None:
    expected = statistics(runtime, attempt_filter)
    assert expected["total"] > 0

    assert count(runtime, most=100) == 100
    assert statistics(runtime, attempt_filter) == expected
    assert count(runtime) == 200
    assert statistics(runtime, attempt_filter) == expected


@pytest.mark.parametrize(
    "zone", ["Asia/Kathmandu", "Pacific/Marquesas", "Australia/Lord_Howe", "Africa/Monrovia", "UTC"]
)
def test_columns_are_exact_in_time_zones_with_offsets_of_part_of_an_hour(
    attempts: Flask, runtime: Runtime, zone: str
) -> None:
    day = START.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0) + timedelta(days=1)
    filters = [AttemptFilter(), AttemptFilter(since=day), AttemptFilter(since=day, until=day + timedelta(days=1))]
    expected = [statistics(runtime, attempt_filter, ZoneInfo(zone)) for attempt_filter in filters]

    count(runtime)

    assert [statistics(runtime, attempt_filter, ZoneInfo(zone)) for attempt_filter in filters] == expected


def test_percentiles_cover_all_attempts_and_overstate_by_at_most_ten_percent(
    attempts: Flask, runtime: Runtime, rows: Rows
) -> None:
    spread = "percentile_disc(array[0.5, 0.95, 0.99]) within group (order by duration_ms)"
    [exact] = [row["ms"] for row in rows.query(f"select {spread} as ms from attempts")]  # noqa: S608 - constant text

    count(runtime, most=200)

    found = statistics(runtime, AttemptFilter())["durations"]
    for shown, true in zip((found.p50, found.p95, found.p99), exact, strict=True):
        assert true <= shown <= 1.1 * true


def test_attempts_drained_late_are_aggregated_into_their_own_hour(
    attempts: Flask, runtime: Runtime, rows: Rows
) -> None:
    count(runtime)
    keep(attempts, START, status=503, code="overloaded")
    before = statistics(runtime, AttemptFilter())

    count(runtime)

    assert statistics(runtime, AttemptFilter()) == before
    found = rows.query("select grain, at, number from attempt_counts where code = 'overloaded'")
    assert {(row["grain"], row["at"], row["number"]) for row in found} == {
        ("15min", datetime(2026, 3, 9, 9, 15, tzinfo=UTC), 1),
        ("hour", datetime(2026, 3, 9, 9, tzinfo=UTC), 1),
        ("day", datetime(2026, 3, 9, tzinfo=UTC), 1),
        ("month", datetime(2026, 3, 1, tzinfo=UTC), 1),
    }


def test_a_snapshot_does_not_change_when_more_attempts_are_aggregated(attempts: Flask, runtime: Runtime) -> None:
    newest = runtime.read_database.read_transaction(snapshots.find_last_seq)
    attempt_filter = AttemptFilter(max_seq=newest)
    before = statistics(runtime, attempt_filter)
    for _ in range(5):
        keep(attempts, START + timedelta(hours=1))

    count(runtime)

    assert statistics(runtime, attempt_filter)["total"] == before["total"] == 300
    assert statistics(runtime, AttemptFilter())["total"] == 305


def test_few_attempts_are_not_aggregated(attempts: Flask, runtime: Runtime, rows: Rows) -> None:
    waiting = len(rows.attempts())

    assert runtime.database.write_transaction(aggregate_attempts, 1000, 100_000) == (0, waiting)
    assert rows.of("attempt_counts") == []


def test_a_killed_aggregation_step_changes_nothing(attempts: Flask, runtime: Runtime) -> None:
    def die(connection: Connection) -> None:
        aggregate_attempts(connection, 1, 100_000)
        connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))

    before = statistics(runtime, AttemptFilter())
    with pytest.raises(DatabaseUnavailableError):
        runtime.database.run_once(die)

    assert statistics(runtime, AttemptFilter()) == before
    assert count(runtime) == 300


def test_concurrent_aggregation_steps_count_nothing_twice(attempts: Flask, runtime: Runtime) -> None:
    before = statistics(runtime, AttemptFilter())
    threads = [threading.Thread(target=count, args=(runtime,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count(runtime)

    assert statistics(runtime, AttemptFilter()) == before


def test_an_attempt_with_an_early_sequence_number_and_a_late_commit_is_not_missed(
    attempts: Flask, runtime: Runtime, rows: Rows
) -> None:
    """Sequence numbers are not in the order of commits.

    The aggregation has to wait or to try again later.
    """
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
        == rows.query("select count(*) n from attempts")[0]["n"]
    )


def test_a_running_vacuum_does_not_block_aggregation(attempts: Flask, runtime: Runtime) -> None:
    """VACUUM may take minutes and holds this lock all the time."""

    def count_during_vacuum(connection: Connection) -> int:
        connection.execute(text("lock table attempts in share update exclusive mode"))
        return count(runtime)

    assert runtime.database.write_transaction(count_during_vacuum) == 300


@pytest.mark.slow
def test_counts_are_exact_with_many_concurrent_writers(attempts: Flask, runtime: Runtime) -> None:
    """They stay exact while old attempts are pruned and more of them arrive."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            runtime.database.write_transaction(lambda connection: connection.execute(text(_COPY)))

    def write_old() -> None:
        while not stop.is_set():
            runtime.database.write_transaction(lambda connection: connection.execute(text(_OLD)))

    def count() -> None:
        while not stop.is_set():
            _try_to(runtime.database, aggregate_attempts, 1, 50)

    def prune_old() -> None:
        while not stop.is_set():
            _try_to(runtime.database, prune_attempts, datetime.now(UTC) - START, 20)

    threads = [threading.Thread(target=work) for work in (write, write, write_old, count, prune_old)]
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
        id, received_at, recorded_at, status, answered, code, method, duration_ms, language, client_address, user_agent
    )
    select {id}, {received_at}, {received_at}, 201, 201, 'created', 'POST', 1, 'en', '', ''
"""
_COPY = _INSERT.format(id="overlay(gen_random_uuid()::text placing 'f' from 1)::uuid", received_at="now()")
_OLD = _INSERT.format(
    id="overlay(gen_random_uuid()::text placing '00000000' from 1)::uuid", received_at="to_timestamp(0)"
)


def _both(connection: Connection) -> tuple[Counter[int], Counter[int]]:
    """Count one snapshot directly and with aggregates."""
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
