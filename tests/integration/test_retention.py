"""Old attempts are pruned in small steps.

Statistics and rows always agree, and users are kept.
"""

import random
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from flask import Flask
from sqlalchemy import Connection, text

from project.domain.attempts import AttemptFilter
from project.domain.errors import ClocksDifferError, DatabaseUnavailableError
from project.queries import maintenance
from project.queries.aggregates import aggregate_attempts, prune_attempts
from project.runtime import Runtime
from project.services import attempts, reports
from project.services.upkeep import Upkeep
from project.spool import Spool
from tests.conftest import Rows
from tests.functional.attempts import keep

LIMIT = datetime(2026, 3, 9, 9, 20, 13, tzinfo=UTC)
AGE = datetime.now(UTC) - LIMIT
OUTCOMES = ((201, "created"), (422, "invalid_phone"), (409, "username_taken"), (0, "interrupted"))
COUNTS = "select grain, at, status, code, number, durations from attempt_counts order by 1, 2, 3, 4"


@pytest.fixture
def log(app: Flask, runtime: Runtime, rows: Rows) -> Flask:
    """Attempts of all outcomes in random order, about half of them older than the limit."""
    chance = random.Random(5)  # noqa: S311 - sample data
    for _ in range(200):
        status, code = chance.choice(OUTCOMES)
        at = LIMIT + timedelta(minutes=chance.uniform(-5000, 5000))
        keep(app, at, status=status, code=code, duration_ms=round(chance.lognormvariate(3, 1)))
    record_on_arrival(rows)
    return app


def record_on_arrival(rows: Rows) -> None:
    """Set the time of recording, which decides about retention, to the time of arrival."""
    rows.query("update attempts set recorded_at = received_at")


def aggregate_all(runtime: Runtime, most: int = 10_000) -> None:
    """Aggregate."""
    runtime.database.write_transaction(aggregate_attempts, 1, most)


@pytest.mark.parametrize("aggregated_first", [0, 90, 200])
def test_aggregates_after_pruning_equal_aggregates_of_the_remaining_attempts(
    log: Flask, runtime: Runtime, rows: Rows, aggregated_first: int
) -> None:
    old = rows.query("select count(*) n from attempts where received_at < :limit", limit=LIMIT)[0]["n"]
    if aggregated_first:
        aggregate_all(runtime, aggregated_first)

    assert runtime.database.write_transaction(prune_attempts, AGE, 40).rows == 40
    assert runtime.database.write_transaction(prune_attempts, AGE, 1000).rows == old - 40 > 0
    aggregate_all(runtime)

    assert rows.query("select count(*) n from attempts where received_at < :limit", limit=LIMIT) == [{"n": 0}]
    assert reports.count_attempts(runtime.read_database, AttemptFilter()) == 200 - old
    remaining = _aggregates(rows)
    rows.query("update watermarks set seq = (select min(seq) - 1 from attempts)")
    rows.query("delete from attempt_counts")
    aggregate_all(runtime)
    assert remaining == _aggregates(rows)


def test_the_oldest_attempts_are_pruned_first(log: Flask, runtime: Runtime, rows: Rows) -> None:
    before = rows.query("select received_at from attempts order by received_at")

    runtime.database.write_transaction(prune_attempts, AGE, 7)

    assert rows.query("select received_at from attempts order by received_at") == before[7:]


def test_a_killed_pruning_step_changes_nothing(log: Flask, runtime: Runtime, rows: Rows) -> None:
    def die(connection: Connection) -> None:
        prune_attempts(connection, AGE, 50)
        connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))

    aggregate_all(runtime)
    before = rows.query(COUNTS)
    with pytest.raises(DatabaseUnavailableError):
        runtime.database.run_once(die)

    assert len(rows.of("attempts")) == 200
    assert rows.query(COUNTS) == before


def test_an_old_attempt_drained_late_is_kept_as_long_as_one_recorded_then(
    log: Flask, runtime: Runtime, rows: Rows
) -> None:
    attempts.prune_all(runtime.database, AGE)
    remaining = len(rows.of("attempts"))
    late = keep(log, LIMIT - timedelta(days=3), status=503, code="database_unavailable")
    aggregate_all(runtime)

    assert attempts.prune_all(runtime.database, AGE) == 0
    rows.query("update attempts set recorded_at = :limit where id = :late", limit=LIMIT - timedelta(days=1), late=late)
    assert attempts.prune_all(runtime.database, AGE) == 1

    assert len(rows.of("attempts")) == remaining == reports.count_attempts(runtime.read_database, AttemptFilter())
    assert rows.query("select * from attempt_counts where code = 'database_unavailable'") == []


@pytest.mark.parametrize("years", [-10, 100])
def test_the_clock_of_an_instance_does_not_decide_about_the_age_of_its_attempts(
    app: Flask, runtime: Runtime, rows: Rows, years: int
) -> None:
    """F46: IDs and times of arrival are set by an instance, whose clock may be wrong."""
    now = datetime.now(UTC)
    for _ in range(3):
        keep(app, now + timedelta(days=365 * years))

    assert attempts.prune_all(runtime.database, timedelta(days=30)) == 0
    rows.query(
        "update attempts set recorded_at = now() - interval '31 days' where seq < (select max(seq) from attempts)"
    )
    assert attempts.prune_all(runtime.database, timedelta(days=30)) == 2


def test_attempts_recorded_while_the_clock_of_postgresql_was_ahead_do_not_hold_up_the_others(
    app: Flask, runtime: Runtime, rows: Rows
) -> None:
    now = datetime.now(UTC)
    keep(app, now)
    rows.query("update attempts set recorded_at = now() + interval '10 years'")
    keep(app, now - timedelta(days=31))
    rows.query("update attempts set recorded_at = received_at where received_at < now() - interval '1 day'")

    assert runtime.database.write_transaction(prune_attempts, timedelta(days=30), 1).rows == 1


@pytest.mark.parametrize("ahead", [timedelta(days=730), timedelta(minutes=-2)])
def test_nothing_is_deleted_by_age_while_the_clocks_differ(
    app: Flask,
    runtime: Runtime,
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    ahead: timedelta,
) -> None:
    """F46: one of the two clocks is wrong, and nobody knows which one."""
    keep(app, datetime.now(UTC) - timedelta(days=400))
    record_on_arrival(rows)
    rows.query("insert into idempotency_keys values ('k', '', gen_random_uuid(), 'kid', now() - interval '1 day')")
    monkeypatch.setattr(maintenance, "datetime", SimpleNamespace(now=lambda zone: datetime.now(zone) + ahead))

    assert attempts.prune_batch(runtime.database, timedelta(days=30)) == 0
    attempts.purge_keys(runtime.database)
    with pytest.raises(ClocksDifferError, match=r"differs from this machine's by [+-]\d+ s"):
        attempts.prune_all(runtime.database, timedelta(days=30))

    assert [len(rows.of(table)) for table in ("attempts", "idempotency_keys")] == [1, 1]
    assert {line.message for line in caplog.records} == {"clocks differ: nothing is deleted"}


def test_every_deletion_by_age_is_logged_with_its_number_and_limit(
    app: Flask, runtime: Runtime, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    keep(app, datetime.now(UTC) - timedelta(days=40))
    record_on_arrival(rows)
    rows.query("insert into idempotency_keys values ('k', '', gen_random_uuid(), 'kid', now() - interval '1 day')")

    for _ in range(2):
        attempts.prune_batch(runtime.database, timedelta(days=30))
        attempts.purge_keys(runtime.database)

    pruned, purged = (vars(line) for line in caplog.records)
    assert (pruned["message"], pruned["attempts"]) == ("old attempts deleted", 1)
    assert (purged["message"], purged["keys"]) == ("expired keys deleted", 1)
    limit = datetime.fromisoformat(pruned["recorded_before"]) + timedelta(days=30)
    assert abs(limit - datetime.fromisoformat(purged["expired_before"])) < timedelta(seconds=10)


def test_users_are_kept_when_their_attempts_are_pruned(log: Flask, runtime: Runtime, rows: Rows) -> None:
    ids = [keep(log, LIMIT + timedelta(days=days)) for days in (-1, 1)]
    for user_id in ids:
        rows.query(
            "insert into users (id, name, username, email, password_hash, created_at)"
            " values (:id, 'N', cast(:id as text), 'n@example.org', '', now())",
            id=user_id,
        )
    record_on_arrival(rows)

    attempts.prune_all(runtime.database, AGE)

    assert [(row["id"], row["attempt_status"]) for row in rows.of("users")] == [(ids[0], None), (ids[1], 201)]


def test_upkeep_prunes_old_attempts(app: Flask, runtime: Runtime, rows: Rows, tmp_path: object) -> None:
    now = datetime.now(UTC)
    for days in (29, 31, 32):
        keep(app, now - timedelta(days=days))
    record_on_arrival(rows)
    spool = Spool(runtime.spool.root / "of-retention")
    unlimited, thirty_days = (
        Upkeep(runtime.database, runtime.read_database, spool, keep_days=days, phone_region="RU") for days in (0, 30)
    )

    unlimited.run_round()
    assert len(rows.of("attempts")) == 3
    thirty_days.run_round()

    assert [row["received_at"].date() for row in rows.of("attempts")] == [(now - timedelta(days=29)).date()]


def _aggregates(rows: Rows) -> list[dict[str, object]]:
    """Return the aggregates without the trailing zeros that pruning leaves in lists."""
    found = rows.query(COUNTS)
    for row in found:
        while row["durations"] and not row["durations"][-1]:
            row["durations"].pop()
    return found
