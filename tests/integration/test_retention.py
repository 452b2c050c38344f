"""Old attempts are forgotten in small steps; numbers and rows tell the same at every moment, and users stay."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import Connection, text

from project.domain.attempts import AttemptFilter
from project.domain.errors import DatabaseUnavailableError
from project.queries.aggregates import aggregate, prune
from project.runtime import Runtime
from project.services import attempts, reports
from project.services.upkeep import Upkeep
from project.spool import Spool
from tests.conftest import Rows
from tests.functional.attempts import keep

LIMIT = datetime(2026, 3, 9, 9, 20, 13, tzinfo=UTC)
ENDS = ((201, "created"), (422, "invalid_phone"), (409, "username_taken"), (0, "interrupted"))
COUNTS = "select grain, at, status, code, number, durations from attempt_counts order by 1, 2, 3, 4"


@pytest.fixture
def log(app: Flask, runtime: Runtime) -> Flask:
    """Attempts of all ends, about half of them older than the limit, in no order of time."""
    chance = random.Random(5)  # noqa: S311 - sample data
    for _ in range(200):
        status, code = chance.choice(ENDS)
        at = LIMIT + timedelta(minutes=chance.uniform(-5000, 5000))
        keep(app, at, status=status, code=code, duration_ms=round(chance.lognormvariate(3, 1)))
    return app


def count(runtime: Runtime, most: int = 10_000) -> None:
    """Count beforehand."""
    runtime.database.write_transaction(aggregate, 1, most)


@pytest.mark.parametrize("counted_first", [0, 90, 200])
def test_what_is_left_is_counted_as_if_there_had_never_been_more(
    log: Flask, runtime: Runtime, rows: Rows, counted_first: int
) -> None:
    old = rows.ask("select count(*) n from attempts where received_at < :limit", limit=LIMIT)[0]["n"]
    if counted_first:
        count(runtime, counted_first)

    assert runtime.database.write_transaction(prune, LIMIT, 40) == 40
    assert runtime.database.write_transaction(prune, LIMIT, 1000) == old - 40 > 0
    count(runtime)

    assert rows.ask("select count(*) n from attempts where received_at < :limit", limit=LIMIT) == [{"n": 0}]
    assert reports.count_attempts(runtime.read_database, AttemptFilter()) == 200 - old
    left = _in_short(rows)
    rows.ask("update watermarks set seq = (select min(seq) - 1 from attempts)")
    rows.ask("delete from attempt_counts")
    count(runtime)
    assert left == _in_short(rows)


def test_the_oldest_go_first(log: Flask, runtime: Runtime, rows: Rows) -> None:
    before = rows.ask("select received_at from attempts order by received_at")

    runtime.database.write_transaction(prune, LIMIT, 7)

    assert rows.ask("select received_at from attempts order by received_at") == before[7:]


def test_a_step_that_is_killed_has_forgotten_nothing(log: Flask, runtime: Runtime, rows: Rows) -> None:
    def die(connection: Connection) -> None:
        prune(connection, LIMIT, 50)
        connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))

    count(runtime)
    before = rows.ask(COUNTS)
    with pytest.raises(DatabaseUnavailableError):
        runtime.database.run_once(die)

    assert len(rows.of("attempts")) == 200
    assert rows.ask(COUNTS) == before


def test_a_late_drain_of_an_old_attempt_is_forgotten_in_turn(log: Flask, runtime: Runtime, rows: Rows) -> None:
    attempts.prune_all(runtime.database, LIMIT)
    left = len(rows.of("attempts"))
    keep(log, LIMIT - timedelta(days=3), status=503, code="database_unavailable")
    count(runtime)

    assert attempts.prune_all(runtime.database, LIMIT) == 1

    assert len(rows.of("attempts")) == left == reports.count_attempts(runtime.read_database, AttemptFilter())
    assert rows.ask("select * from attempt_counts where code = 'database_unavailable'") == []


def test_users_outlive_the_attempts_that_created_them(log: Flask, runtime: Runtime, rows: Rows) -> None:
    ids = [keep(log, LIMIT + timedelta(days=days)) for days in (-1, 1)]
    for user_id in ids:
        rows.ask(
            "insert into users (id, name, username, email, password_hash, created_at)"
            " values (:id, 'N', cast(:id as text), 'n@example.org', '', now())",
            id=user_id,
        )

    attempts.prune_all(runtime.database, LIMIT)

    assert [(row["id"], row["attempt_status"]) for row in rows.of("users")] == [(ids[0], None), (ids[1], 201)]


def test_the_upkeep_forgets_a_step_at_a_time(app: Flask, runtime: Runtime, rows: Rows, tmp_path: object) -> None:
    now = datetime.now(UTC)
    for days in (29, 31, 32):
        keep(app, now - timedelta(days=days))
    spool = Spool(runtime.spool.root / "of-retention")
    for_ever, for_a_month = (Upkeep(runtime.database, runtime.read_database, spool, keep_days=days) for days in (0, 30))

    for_ever.run_round()
    assert len(rows.of("attempts")) == 3
    for_a_month.run_round()

    assert [row["received_at"].date() for row in rows.of("attempts")] == [(now - timedelta(days=29)).date()]


def _in_short(rows: Rows) -> list[dict[str, object]]:
    """Return the counts, without the zeros that taking away leaves at the end of lists."""
    found = rows.ask(COUNTS)
    for row in found:
        while row["durations"] and not row["durations"][-1]:
            row["durations"].pop()
    return found
