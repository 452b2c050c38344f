"""The database layer on a real server: deadlines, prepared statements, unknown outcomes."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2
import pytest
from psycopg2 import extensions
from sqlalchemy import Connection, Integer, bindparam, cast, column, create_engine, select, table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from project import READ_SNAPSHOT_OPTIONS
from project import database as db
from project.database import Database, PreparedQuery, PreparedStatement, hosts
from project.database.breaker import CHECK_OVERDUE_S, Breaker
from project.database.database import MIN_TRY_S
from project.database.deadline import HostConnection, HostState, remaining_seconds
from project.database.deadline import _wait as wait
from project.database.prepared import autocommit_cursor
from project.domain.errors import DatabaseUnavailableError, OutcomeUnknownError, WritesRefusedError
from project.queries.maintenance import probe_commit
from project.runtime import Runtime
from tests.conftest import Rows

KIND = "select current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only')"
"""Selects isolation level and access mode of the transaction."""


def short_deadline_database(url: str, deadline_s: float = 0.5, **options: Any) -> Database:
    """Return a Database with a short deadline."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg2://"), poolclass=NullPool, **options)
    return Database(engine, deadline_s, name="test", permits=4, connections=4)


@contextmanager
def single_connection_database(url: str, **options: Any) -> Iterator[Database]:
    """Yield a Database with a single connection, which stays open."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg2://"), pool_size=1, **options)
    yield Database(engine, 2.0, name="test", permits=1, connections=1)
    engine.dispose()


@pytest.fixture
def single(postgres_url: str) -> Iterator[Database]:
    """A Database with a single connection."""
    with single_connection_database(postgres_url) as database:
        yield database


def select_value(connection: Connection, sql: str) -> Any:
    """Return the single value of an SQL query."""
    return connection.execute(text(sql)).scalar_one()


def test_a_slow_statement_ends_at_the_deadline(runtime: Runtime, postgres_url: str) -> None:
    with pytest.raises(DatabaseUnavailableError):
        short_deadline_database(postgres_url).write_transaction(select_value, "select pg_sleep(60)")


def test_a_plan_that_is_cached_while_a_table_is_empty_uses_its_index(runtime: Runtime) -> None:
    def explain(connection: Connection) -> str:
        connection.exec_driver_sql("create temporary table growing (id integer primary key) on commit drop")
        connection.exec_driver_sql("analyze growing")
        connection.exec_driver_sql("set local plan_cache_mode = force_generic_plan")
        connection.exec_driver_sql("prepare find_growing as select 1 from growing where id = $1 for key share")
        plan = connection.exec_driver_sql("explain execute find_growing (1)").scalars().all()
        connection.exec_driver_sql("deallocate find_growing")
        return "\n".join(plan)

    plan = runtime.database.run_once(explain)

    assert "Index Scan" in plan
    assert "Seq Scan" not in plan


def test_a_connection_to_a_silent_server_ends_at_the_deadline(runtime: Runtime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        database = short_deadline_database(f"postgresql://u:p@127.0.0.1:{listener.getsockname()[1]}/d")

        with pytest.raises(DatabaseUnavailableError):
            database.write_transaction(select_value, "select 1")


def test_a_check_of_a_silent_server_opens_the_breaker(runtime: Runtime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        database = short_deadline_database(f"postgresql://u:p@127.0.0.1:{listener.getsockname()[1]}/d")
        began = time.monotonic()

        database.check()

    assert database.breaker.is_open
    since = database.breaker.unavailable_since
    assert since is not None
    assert began <= since <= database.breaker.checked_at


def test_nobody_waits_for_an_abandoned_host(runtime: Runtime, postgres_url: str) -> None:
    connection = psycopg2.connect(postgres_url, connection_factory=HostConnection)
    connection.host_state = HostState()
    connection.host_state.is_abandoned = True

    with db.deadline(60), pytest.raises(psycopg2.OperationalError, match="another one does"):
        connection.cursor().execute("select pg_sleep(60)")

    assert connection.closed


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_host_is_silent_while_it_does_not_answer_a_check(
    seconds: int, runtime: Runtime, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "SILENT_S", 0.3)
    connection = psycopg2.connect(postgres_url, connection_factory=HostConnection)
    connection.host_state = HostState()

    with suppress(psycopg2.OperationalError), hosts.detect_silence(connection):
        connection.cursor().execute("select pg_sleep(%s)", [seconds])

    assert connection.host_state.is_silent == (seconds > 0)
    connection.close()


def test_a_check_without_an_answer_counts_as_an_outage_before_the_breaker_opens() -> None:
    breaker = Breaker("test")
    found = []
    for age_s in (0, CHECK_OVERDUE_S + 0.1):
        breaker.begin_check()
        breaker._check_began = time.monotonic() - age_s
        found.append(breaker.unavailable_since is not None)
    breaker.end_check()
    found.append(breaker.unavailable_since is not None)

    assert found == [False, True, False]
    assert not breaker.is_open


def test_whoever_knows_of_an_outage_knows_since_which_check() -> None:
    overdue, opened = Breaker("overdue"), Breaker("opened")

    overdue.begin_check()
    overdue._check_began = time.monotonic() - CHECK_OVERDUE_S - 0.1
    opened.record_failure(time.monotonic())

    for breaker in (overdue, opened):
        assert breaker.unavailable_since is not None
        assert breaker.checked_at >= breaker.unavailable_since


def test_a_successful_check_does_not_hide_that_commits_hang(runtime: Runtime, postgres_url: str) -> None:
    database = short_deadline_database(postgres_url)
    commit_began = time.monotonic()

    database.check()
    database.breaker.record_failure(commit_began)

    assert database.breaker.is_open


def test_waiting_for_a_lock_ends_at_the_deadline(runtime: Runtime, postgres_url: str) -> None:
    held, release = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        connection.execute(text("lock table users"))
        held.set()
        release.wait()

    holder = threading.Thread(target=short_deadline_database(postgres_url, 60).write_transaction, args=(hold,))
    holder.start()
    held.wait()
    try:
        with pytest.raises(DatabaseUnavailableError):
            short_deadline_database(postgres_url).write_transaction(select_value, "select count(*) from users")
    finally:
        release.set()
        holder.join()


def test_a_probe_of_a_server_that_has_become_read_only_is_refused(runtime: Runtime, single: Database) -> None:
    single.run_once(lambda connection: connection.execute(text("set default_transaction_read_only = on")))

    with pytest.raises(WritesRefusedError):
        single.run_once(probe_commit)


IN_FORCE = {
    "statement_timeout": "2s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "4s",
    "client_connection_check_interval": "1s",
    "synchronous_commit": "on",
    "TimeZone": "UTC",
}
OVER_TCP = {
    "connect_timeout": "2",
    "keepalives_idle": "2",
    "keepalives_interval": "1",
    "keepalives_count": "2",
    "tcp_user_timeout": "3000",
}


@pytest.mark.parametrize("name", ["database", "read_database"])
def test_postgresql_and_tcp_timeouts_are_set_on_every_connection(runtime: Runtime, name: str) -> None:
    database: Database = getattr(runtime, name)

    found = {key: database.write_transaction(select_value, f"select current_setting('{key}')") for key in IN_FORCE}
    dsn_parameters = database.write_transaction(lambda connection: _driver(connection).info.dsn_parameters)

    assert found == IN_FORCE
    assert dsn_parameters | OVER_TCP == dsn_parameters


def test_commits_are_synchronous_even_if_the_database_defaults_to_asynchronous(runtime: Runtime, rows: Rows) -> None:
    [name] = [row["name"] for row in rows.query("select current_database() as name")]
    rows.query(f'alter database "{name}" set synchronous_commit = off')
    try:
        runtime.database._engine.dispose()
        assert runtime.database.write_transaction(select_value, "select current_setting('synchronous_commit')") == "on"
    finally:
        rows.query(f'alter database "{name}" reset synchronous_commit')
        runtime.database._engine.dispose()


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def test_a_missing_database_is_an_outage_that_is_logged_as_an_error(
    runtime: Runtime, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = short_deadline_database(f"{postgres_url.rpartition('/')[0]}/nowhere", 10)

    with pytest.raises(DatabaseUnavailableError):
        database.write_transaction(select_value, "select 1")

    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["database misconfigured"]


def test_a_wrong_password_is_an_outage_that_logs_no_secret(
    runtime: Runtime, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    head, _, host = postgres_url.rpartition("@")
    database = short_deadline_database(f"{head}-wrong-password@{host}")

    with pytest.raises(DatabaseUnavailableError):
        database.write_transaction(select_value, "select 1")

    assert "wrong-password" not in caplog.text


def test_an_unconfirmed_commit_has_an_unknown_outcome(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object) -> None:
        raise DBAPIError.instance("COMMIT", {}, db.DeadlineError("gone"), db.DeadlineError)

    monkeypatch.setattr("sqlalchemy.engine.base.RootTransaction.commit", lose)

    with db.deadline(0.3), pytest.raises(OutcomeUnknownError):
        runtime.database.write_transaction(select_value, "select 1")


def test_no_retry_starts_when_too_little_time_is_left(runtime: Runtime) -> None:
    attempts = []

    def be_full(_: Connection) -> None:
        attempts.append(1)
        raise DBAPIError.instance("insert", {}, psycopg2.errors.DiskFull("no space left"), psycopg2.Error)

    with db.deadline(MIN_TRY_S), pytest.raises(DatabaseUnavailableError):
        runtime.database.write_transaction(be_full)

    assert len(attempts) == 1


def test_the_last_pause_between_retries_is_shortened_to_leave_time_for_one(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("project.database.database._random.uniform", lambda _, ceiling: ceiling)
    left = []

    def be_full(_: Connection) -> None:
        left.append(db.remaining_seconds() or 0)
        raise DBAPIError.instance("insert", {}, psycopg2.errors.DiskFull("no space left"), psycopg2.Error)

    with db.deadline(1), pytest.raises(DatabaseUnavailableError):
        runtime.database.write_transaction(be_full)

    assert left[-1] <= MIN_TRY_S


def test_a_pooled_connection_closed_by_the_server_does_not_leave_the_outcome_unknown(
    runtime: Runtime, postgres_url: str, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_url.replace("postgresql://", "postgresql+psycopg2://")
    engine = create_engine(url, pool_size=1, max_overflow=0, connect_args={"application_name": "resting"})
    database = Database(engine, 0.3, name="test", permits=1, connections=1)
    one = PreparedStatement("one", "select {}::integer", arguments=1)
    assert database.write_statement(one, 1) == [(1,)]
    resting = "select pid, pg_terminate_backend(pid) from pg_stat_activity where application_name = 'resting'"
    while rows.query(resting):
        pass

    def refuse(*_: object, **__: object) -> None:
        raise psycopg2.OperationalError("refused")

    monkeypatch.setattr(psycopg2, "connect", refuse)
    with pytest.raises(DatabaseUnavailableError):
        database.write_statement(one, 1)


@pytest.mark.parametrize(
    "change",
    [
        "deallocate all",
        "alter table things add column size integer",
    ],
    ids=["a pooler gives another session", "a migration changes what it returns"],
)
def test_a_statement_that_is_no_longer_prepared_is_prepared_again_or_sent_unprepared(
    runtime: Runtime, single: Database, change: str
) -> None:
    sample = PreparedStatement("sample", "select t.* from things t where name = {}", arguments=1)
    single.write_transaction(lambda connection: connection.execute(text("create temp table things (name text)")))
    single.write_transaction(lambda connection: connection.execute(text("insert into things values ('a'), ('b')")))
    assert single.write_statement(sample, "b") == [("b",)]

    single.write_transaction(lambda connection: connection.execute(text(change)))

    assert [row[0] for row in single.write_statement(sample, "b")] == ["b"]


def test_a_statement_already_prepared_by_another_client_of_a_pooler_is_executed(
    runtime: Runtime, single: Database
) -> None:
    sample = PreparedStatement("sample", "select cast({} as text)", arguments=1)
    prepare = f"prepare {sample.prepared_name} as select cast($1 as text)"
    single.write_transaction(lambda connection: connection.execute(text(prepare)))

    assert single.write_statement(sample, "b") == [("b",)]


def doubling_query(column: str) -> PreparedQuery:
    """Return a query that adds a number to itself."""
    number = cast(bindparam("number", required=False), Integer)
    return PreparedQuery(select((number + number).label(column)), "Europe/Moscow", ("number",))


@contextmanager
def round_trips() -> Iterator[list[extensions.connection]]:
    """Yield a list that gets the connection of each round trip to PostgreSQL in this thread."""
    trips: list[extensions.connection] = []
    current_thread = threading.get_ident()

    def record_trip(connection: extensions.connection) -> None:
        if threading.get_ident() == current_thread:
            trips.append(connection)
        wait(connection)

    extensions.set_wait_callback(record_trip)
    try:
        yield trips
    finally:
        db.install_wait_callback()


def test_a_session_keeps_one_prepared_query_and_replaces_it_by_the_next(runtime: Runtime, single: Database) -> None:
    def prepared_queries(connection: Connection) -> list[tuple[str, int]]:
        prepared = "select statement, generic_plans + custom_plans from pg_prepared_statements where name ~ 'query'"
        return [
            (sql.partition(" AS INTEGER) AS ")[2].partition(";")[0], used)
            for sql, used in connection.execute(text(prepared))
        ]

    one, other = doubling_query("one"), doubling_query("other")

    assert [single.read_query(one, number=number) for number in (1, 2)] == [[(2,)], [(4,)]]
    assert single.read_transaction(prepared_queries) == [("one", 2)]
    assert single.read_query(other, number=3) == [(6,)]
    assert single.read_transaction(prepared_queries) == [("other", 1)]
    assert single.read_query(one, number=4) == [(8,)]
    assert single.read_transaction(prepared_queries) == [("one", 1)]


def test_a_query_that_failed_to_prepare_is_prepared_again_next_time(runtime: Runtime, single: Database) -> None:
    number = column("number", Integer) + bindparam("added", required=False)
    later = PreparedQuery(select(number).select_from(table("things")), "Europe/Moscow", ("added",))
    single.read_query(doubling_query("one"), number=1)
    with pytest.raises(DatabaseUnavailableError):  # as when a migration is missing
        single.read_query(later, added=1)

    single.write_transaction(
        lambda connection: connection.execute(text("create temp table things as select 2 as number"))
    )

    with round_trips() as trips:
        assert single.read_query(later, added=1) == [(3,)]
    assert len(trips) == 1


def test_queries_are_sent_unprepared_once_a_pooler_has_switched_sessions(runtime: Runtime, single: Database) -> None:
    one, other = doubling_query("one"), doubling_query("other")
    single.read_query(one, number=1)
    single.read_transaction(lambda connection: connection.execute(text("deallocate all")))

    assert single.read_query(one, number=2) == [(4,)]
    with round_trips() as trips:
        assert single.read_query(other, number=3) == [(6,)]
    assert len(trips) == 1
    assert (
        single.read_transaction(select_value, "select count(*) from pg_prepared_statements where name like 'query%'")
        == 0
    )


def test_a_single_query_takes_one_round_trip_and_restores_the_connection(runtime: Runtime, postgres_url: str) -> None:
    one = doubling_query("one")
    with single_connection_database(postgres_url, execution_options=READ_SNAPSHOT_OPTIONS) as single:
        before = single.read_transaction(select_value, KIND), single.read_query(one, number=1)

        with round_trips() as trips:
            single.read_query(one, number=1)

        assert len(trips) == 1
        assert (
            (single.read_transaction(select_value, KIND), single.read_query(one, number=1))
            == before
            == ("repeatable read on", [(2,)])
        )


def test_a_transaction_keeps_its_isolation_level_after_an_autocommit_statement(
    runtime: Runtime, postgres_url: str
) -> None:
    def select_in_both_modes(connection: Connection) -> tuple[Any, Any]:
        with autocommit_cursor(connection.connection) as cursor:
            cursor.execute(KIND)
            [(autocommit,)] = cursor.fetchall()
        return autocommit, select_value(connection, KIND)

    with single_connection_database(postgres_url, execution_options=READ_SNAPSHOT_OPTIONS) as single:
        assert single.read_transaction(select_in_both_modes) == ("read committed off", "repeatable read on")


def test_a_connection_in_a_failed_transaction_is_not_used_again(runtime: Runtime, single: Database) -> None:
    def leave_as_after_a_cancelled_commit(connection: Connection) -> None:
        """Fail a transaction of which psycopg2 does not know."""
        with autocommit_cursor(connection.connection) as cursor:
            cursor.execute("begin")
            with pytest.raises(psycopg2.Error):
                cursor.execute("select 1 / 0")

    single.read_transaction(leave_as_after_a_cancelled_commit)

    assert single.read_transaction(select_value, "select 1") == 1


def test_a_read_only_statement_never_has_an_unknown_outcome(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object, **__: object) -> list[db.Row]:
        raise db.DeadlineError("gone")

    monkeypatch.setattr(PreparedStatement, "run", lose)
    one = PreparedStatement("one", "select {}::integer", arguments=1)

    with db.deadline(0.3), pytest.raises(OutcomeUnknownError):
        runtime.database.write_statement(one, 1)
    runtime.database.breaker.close()
    with db.deadline(0.3), pytest.raises(DatabaseUnavailableError):
        runtime.database.read_statement(one, 1)


def test_a_read_transaction_never_has_an_unknown_outcome(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object) -> None:
        raise DBAPIError.instance("COMMIT", {}, db.DeadlineError("gone"), db.DeadlineError)

    monkeypatch.setattr("sqlalchemy.engine.base.RootTransaction.commit", lose)

    with db.deadline(0.3), pytest.raises(DatabaseUnavailableError):
        runtime.database.read_transaction(select_value, "select 1")


def test_the_nearer_of_two_nested_deadlines_applies_and_the_outer_one_is_restored() -> None:
    assert remaining_seconds() is None

    with db.deadline(60):
        with db.deadline(600):
            inner = remaining_seconds()
        outer = remaining_seconds()

    assert inner is not None
    assert outer is not None
    assert inner <= 60
    assert remaining_seconds() is None


def test_a_broken_connection_is_replaced_without_a_restart(runtime: Runtime) -> None:
    def break_once(connection: Connection, broken: list[bool]) -> Any:
        if not broken:
            broken.append(True)
            connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))
        return select_value(connection, "select 1")

    assert runtime.database.write_transaction(break_once, []) == 1
