"""Waiting for PostgreSQL ends at the deadline, whatever keeps it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import pytest
from psycopg2 import extensions
from sqlalchemy import Connection, Integer, bindparam, cast, column, create_engine, select, table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from project import ONE_SNAPSHOT
from project import database as db
from project.database import Database, PreparedQuery, PreparedStatement
from project.database.database import MIN_TRY_S
from project.database.deadline import _wait as wait
from project.database.deadline import remaining
from project.database.prepared import autocommit_cursor
from project.domain.errors import DatabaseUnavailableError, OutcomeUnknownError
from project.runtime import Runtime
from tests.conftest import Rows

KIND = "select current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only')"
"""Asks what kind of transaction this is."""


def impatient(url: str, deadline_s: float = 0.5, **options: Any) -> Database:
    """Return a way to a database that soon gives up."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg2://"), poolclass=NullPool, **options)
    return Database(engine, deadline_s, name="test", permits=4, connections=4)


@contextmanager
def session(url: str, **options: Any) -> Iterator[Database]:
    """Give a way to a database over one connection, which stays open."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg2://"), pool_size=1, **options)
    yield Database(engine, 2.0, name="test", permits=1, connections=1)
    engine.dispose()


@pytest.fixture
def lone(postgres_url: str) -> Iterator[Database]:
    """A way to PostgreSQL over one connection."""
    with session(postgres_url) as database:
        yield database


def ask(connection: Connection, question: str) -> Any:
    """Return the one value that answers an SQL question."""
    return connection.execute(text(question)).scalar_one()


def test_a_statement_that_takes_too_long_ends_at_the_deadline(runtime: Runtime, postgres_url: str) -> None:
    with pytest.raises(DatabaseUnavailableError):
        impatient(postgres_url).write_transaction(ask, "select pg_sleep(60)")


def test_a_server_that_accepts_and_says_nothing_ends_at_the_deadline(runtime: Runtime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        database = impatient(f"postgresql://u:p@127.0.0.1:{listener.getsockname()[1]}/d")

        with pytest.raises(DatabaseUnavailableError):
            database.write_transaction(ask, "select 1")


def test_a_lock_held_by_another_ends_at_the_deadline(runtime: Runtime, postgres_url: str) -> None:
    held, release = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        connection.execute(text("lock table users"))
        held.set()
        release.wait()

    holder = threading.Thread(target=impatient(postgres_url, 60).write_transaction, args=(hold,))
    holder.start()
    held.wait()
    try:
        with pytest.raises(DatabaseUnavailableError):
            impatient(postgres_url).write_transaction(ask, "select count(*) from users")
    finally:
        release.set()
        holder.join()


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


@pytest.mark.parametrize("way", ["database", "read_database"])
def test_postgres_and_the_network_bound_what_they_do_for_us_too(runtime: Runtime, way: str) -> None:
    database: Database = getattr(runtime, way)

    found = {name: database.write_transaction(ask, f"select current_setting('{name}')") for name in IN_FORCE}
    given = database.write_transaction(lambda connection: _driver(connection).info.dsn_parameters)

    assert found == IN_FORCE
    assert given | OVER_TCP == given


def test_a_commit_is_on_the_disk_when_it_is_confirmed_whatever_the_database_is_set_to(
    runtime: Runtime, rows: Rows
) -> None:
    [name] = [row["name"] for row in rows.ask("select current_database() as name")]
    rows.ask(f'alter database "{name}" set synchronous_commit = off')
    try:
        runtime.database._engine.dispose()
        assert runtime.database.write_transaction(ask, "select current_setting('synchronous_commit')") == "on"
    finally:
        rows.ask(f'alter database "{name}" reset synchronous_commit')
        runtime.database._engine.dispose()


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def test_a_database_that_is_not_there_is_an_outage_that_is_said_loudly(
    runtime: Runtime, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = impatient(f"{postgres_url.rpartition('/')[0]}/nowhere", 10)

    with pytest.raises(DatabaseUnavailableError):
        database.write_transaction(ask, "select 1")

    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["database misconfigured"]


def test_a_wrong_password_is_an_outage_that_tells_no_secret(
    runtime: Runtime, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    head, _, host = postgres_url.rpartition("@")
    database = impatient(f"{head}-wrong-password@{host}")

    with pytest.raises(DatabaseUnavailableError):
        database.write_transaction(ask, "select 1")

    assert "wrong-password" not in caplog.text


def test_a_commit_that_is_never_confirmed_leaves_the_outcome_unknown(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object) -> None:
        raise DBAPIError.instance("COMMIT", {}, db.DeadlineError("gone"), db.DeadlineError)

    monkeypatch.setattr("sqlalchemy.engine.base.RootTransaction.commit", lose)

    with db.deadline(0.3), pytest.raises(OutcomeUnknownError):
        runtime.database.write_transaction(ask, "select 1")


def test_no_further_try_begins_that_the_deadline_would_cut_off(runtime: Runtime) -> None:
    tries = []

    def be_full(_: Connection) -> None:
        tries.append(1)
        raise DBAPIError.instance("insert", {}, psycopg2.errors.DiskFull("no space left"), psycopg2.Error)

    with db.deadline(MIN_TRY_S), pytest.raises(DatabaseUnavailableError):
        runtime.database.write_transaction(be_full)

    assert len(tries) == 1


def test_a_connection_that_was_closed_while_it_rested_leaves_no_doubt(
    runtime: Runtime, postgres_url: str, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_url.replace("postgresql://", "postgresql+psycopg2://")
    engine = create_engine(url, pool_size=1, max_overflow=0, connect_args={"application_name": "resting"})
    database = Database(engine, 0.3, name="test", permits=1, connections=1)
    one = PreparedStatement("one", "select {}::integer", arguments=1)
    assert database.write_statement(one, 1) == [(1,)]
    resting = "select pid, pg_terminate_backend(pid) from pg_stat_activity where application_name = 'resting'"
    while rows.ask(resting):
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
def test_a_statement_that_the_session_does_not_know_any_more_is_prepared_again_or_sent_whole(
    runtime: Runtime, lone: Database, change: str
) -> None:
    sample = PreparedStatement("sample", "select t.* from things t where name = {}", arguments=1)
    lone.write_transaction(lambda connection: connection.execute(text("create temp table things (name text)")))
    lone.write_transaction(lambda connection: connection.execute(text("insert into things values ('a'), ('b')")))
    assert lone.write_statement(sample, "b") == [("b",)]

    lone.write_transaction(lambda connection: connection.execute(text(change)))

    assert [row[0] for row in lone.write_statement(sample, "b")] == ["b"]


def test_a_statement_that_the_session_of_a_pooler_knows_from_another_client_is_executed(
    runtime: Runtime, lone: Database
) -> None:
    sample = PreparedStatement("sample", "select cast({} as text)", arguments=1)
    known = f"prepare {sample.prepared_name} as select cast($1 as text)"
    lone.write_transaction(lambda connection: connection.execute(text(known)))

    assert lone.write_statement(sample, "b") == [("b",)]


def question(column: str) -> PreparedQuery:
    """Return one that adds a number to itself."""
    number = cast(bindparam("number", required=False), Integer)
    return PreparedQuery(select((number + number).label(column)), "Europe/Moscow", ("number",))


@contextmanager
def round_trips() -> Iterator[list[extensions.connection]]:
    """Give a list of whom PostgreSQL was asked for something by, each time, in this thread."""
    trips: list[extensions.connection] = []
    here = threading.get_ident()

    def note(connection: extensions.connection) -> None:
        if threading.get_ident() == here:
            trips.append(connection)
        wait(connection)

    extensions.set_wait_callback(note)
    try:
        yield trips
    finally:
        db.install_wait_callback()


def test_a_session_parses_a_question_once_and_forgets_it_for_the_next(runtime: Runtime, lone: Database) -> None:
    def known(connection: Connection) -> list[tuple[str, int]]:
        prepared = "select statement, generic_plans + custom_plans from pg_prepared_statements where name ~ 'query'"
        return [
            (sql.partition(" AS INTEGER) AS ")[2].partition(";")[0], used)
            for sql, used in connection.execute(text(prepared))
        ]

    one, other = question("one"), question("other")

    assert [lone.read_query(one, number=number) for number in (1, 2)] == [[(2,)], [(4,)]]
    assert lone.read_transaction(known) == [("one", 2)]
    assert lone.read_query(other, number=3) == [(6,)]
    assert lone.read_transaction(known) == [("other", 1)]
    assert lone.read_query(one, number=4) == [(8,)]
    assert lone.read_transaction(known) == [("one", 1)]


def test_a_question_that_could_not_be_parsed_is_parsed_the_next_time(runtime: Runtime, lone: Database) -> None:
    number = column("number", Integer) + bindparam("added", required=False)
    later = PreparedQuery(select(number).select_from(table("things")), "Europe/Moscow", ("added",))
    lone.read_query(question("one"), number=1)
    with pytest.raises(DatabaseUnavailableError):  # as while a migration is missing
        lone.read_query(later, added=1)

    lone.write_transaction(
        lambda connection: connection.execute(text("create temp table things as select 2 as number"))
    )

    with round_trips() as trips:
        assert lone.read_query(later, added=1) == [(3,)]
    assert len(trips) == 1


def test_a_question_is_sent_whole_once_sessions_have_changed_hands(runtime: Runtime, lone: Database) -> None:
    one, other = question("one"), question("other")
    lone.read_query(one, number=1)
    lone.read_transaction(lambda connection: connection.execute(text("deallocate all")))

    assert lone.read_query(one, number=2) == [(4,)]
    with round_trips() as trips:
        assert lone.read_query(other, number=3) == [(6,)]
    assert len(trips) == 1
    assert lone.read_transaction(ask, "select count(*) from pg_prepared_statements where name like 'question%'") == 0


def test_what_is_asked_alone_takes_one_round_trip_and_leaves_the_connection_as_it_was(
    runtime: Runtime, postgres_url: str
) -> None:
    one = question("one")
    with session(postgres_url, execution_options=ONE_SNAPSHOT) as lone:
        before = lone.read_transaction(ask, KIND), lone.read_query(one, number=1)

        with round_trips() as trips:
            lone.read_query(one, number=1)

        assert len(trips) == 1
        assert (
            (lone.read_transaction(ask, KIND), lone.read_query(one, number=1))
            == before
            == ("repeatable read on", [(2,)])
        )


def test_a_transaction_that_begins_after_a_statement_of_its_own_is_as_it_would_have_been(
    runtime: Runtime, postgres_url: str
) -> None:
    def ask_twice(connection: Connection) -> tuple[Any, Any]:
        with autocommit_cursor(connection.connection) as cursor:
            cursor.execute(KIND)
            [(alone,)] = cursor.fetchall()
        return alone, ask(connection, KIND)

    with session(postgres_url, execution_options=ONE_SNAPSHOT) as lone:
        assert lone.read_transaction(ask_twice) == ("read committed off", "repeatable read on")


def test_a_statement_that_changes_nothing_is_never_of_unknown_outcome(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object, **__: object) -> list[db.Row]:
        raise db.DeadlineError("gone")

    monkeypatch.setattr(PreparedStatement, "run", lose)
    one = PreparedStatement("one", "select {}::integer", arguments=1)

    with db.deadline(0.3), pytest.raises(OutcomeUnknownError):
        runtime.database.write_statement(one, 1)
    runtime.database.breaker.close()
    with db.deadline(0.3), pytest.raises(DatabaseUnavailableError):
        runtime.database.read_statement(one, 1)


def test_a_question_is_never_of_unknown_outcome(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object) -> None:
        raise DBAPIError.instance("COMMIT", {}, db.DeadlineError("gone"), db.DeadlineError)

    monkeypatch.setattr("sqlalchemy.engine.base.RootTransaction.commit", lose)

    with db.deadline(0.3), pytest.raises(DatabaseUnavailableError):
        runtime.database.read_transaction(ask, "select 1")


def test_of_two_deadlines_the_nearer_one_counts_and_the_outer_one_comes_back() -> None:
    assert remaining() is None

    with db.deadline(60):
        with db.deadline(600):
            inner = remaining()
        outer = remaining()

    assert inner is not None
    assert outer is not None
    assert inner <= 60
    assert remaining() is None


def test_the_way_back_is_found_without_a_restart(runtime: Runtime) -> None:
    def break_once(connection: Connection, broken: list[bool]) -> Any:
        if not broken:
            broken.append(True)
            connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))
        return ask(connection, "select 1")

    assert runtime.database.write_transaction(break_once, []) == 1
