"""Waiting for PostgreSQL ends at the deadline, whatever keeps it."""

import socket
import threading
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from project import outage
from project.domain.errors import DatabaseUnavailableError, OutcomeUnknownError
from project.outage import Database
from project.outage.deadline import remaining
from project.web.tools import Tools


def impatient(url: str, deadline_s: float = 0.5, **options: Any) -> Database:
    """Return a way to a database that soon gives up."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg2://"), poolclass=NullPool, **options)
    return Database(engine, deadline_s, name="test", slots=4, connections=4)


def ask(connection: Connection, question: str) -> Any:
    """Return the one value that answers an SQL question."""
    return connection.execute(text(question)).scalar_one()


def test_a_statement_that_takes_too_long_ends_at_the_deadline(tools: Tools, postgres_url: str) -> None:
    with pytest.raises(DatabaseUnavailableError):
        impatient(postgres_url).transact(ask, "select pg_sleep(60)")


def test_a_server_that_accepts_and_says_nothing_ends_at_the_deadline(tools: Tools) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        database = impatient(f"postgresql://u:p@127.0.0.1:{listener.getsockname()[1]}/d")

        with pytest.raises(DatabaseUnavailableError):
            database.transact(ask, "select 1")


def test_a_lock_held_by_another_ends_at_the_deadline(tools: Tools, postgres_url: str) -> None:
    held, release = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        connection.execute(text("lock table users"))
        held.set()
        release.wait()

    holder = threading.Thread(target=impatient(postgres_url, 60).transact, args=(hold,))
    holder.start()
    held.wait()
    try:
        with pytest.raises(DatabaseUnavailableError):
            impatient(postgres_url).transact(ask, "select count(*) from users")
    finally:
        release.set()
        holder.join()


def test_a_wrong_password_is_an_outage_that_tells_no_secret(
    tools: Tools, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    head, _, host = postgres_url.rpartition("@")
    database = impatient(f"{head}-wrong-password@{host}")

    with pytest.raises(DatabaseUnavailableError):
        database.transact(ask, "select 1")

    assert "wrong-password" not in caplog.text


def test_a_commit_that_is_never_confirmed_leaves_the_outcome_unknown(
    tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object) -> None:
        raise DBAPIError.instance("COMMIT", {}, outage.DeadlineError("gone"), outage.DeadlineError)

    monkeypatch.setattr("sqlalchemy.engine.base.RootTransaction.commit", lose)

    with outage.deadline(0.3), pytest.raises(OutcomeUnknownError):
        tools.database.transact(ask, "select 1")


def test_a_question_is_never_of_unknown_outcome(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object) -> None:
        raise DBAPIError.instance("COMMIT", {}, outage.DeadlineError("gone"), outage.DeadlineError)

    monkeypatch.setattr("sqlalchemy.engine.base.RootTransaction.commit", lose)

    with outage.deadline(0.3), pytest.raises(DatabaseUnavailableError):
        tools.database.read(ask, "select 1")


def test_of_two_deadlines_the_nearer_one_counts_and_the_outer_one_comes_back() -> None:
    assert remaining() is None

    with outage.deadline(60):
        with outage.deadline(600):
            inner = remaining()
        outer = remaining()

    assert inner is not None
    assert outer is not None
    assert inner <= 60
    assert remaining() is None


def test_the_way_back_is_found_without_a_restart(tools: Tools) -> None:
    def break_once(connection: Connection, broken: list[bool]) -> Any:
        if not broken:
            broken.append(True)
            connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))
        return ask(connection, "select 1")

    assert tools.database.transact(break_once, []) == 1
