"""What a process does beside its requests."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from project.domain.attempts import NewAttempt, new_id
from project.domain.errors import DatabaseUnavailableError, FieldError
from project.domain.records import AttemptRecord
from project.outage import Database
from project.services import attempts
from project.services.upkeep import Upkeep
from project.spool import Spool, survey
from project.web.tools import Tools
from tests.conftest import Rows


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """A spool of the test's own."""
    return Spool(tmp_path)


@pytest.fixture
def upkeep(tools: Tools, spool: Spool) -> Upkeep:
    """An upkeep that works when it is told to."""
    return Upkeep(tools.database, tools.reading, spool, keep_days=30)


def attempt() -> NewAttempt:
    """Return an attempt that has just come in."""
    now = datetime.now(UTC)
    return NewAttempt(
        id=new_id(now),
        received_at=now,
        started=time.monotonic(),
        method="POST",
        language="en",
        client_address="10.0.0.1",
        user_agent="test",
        client_request_id=None,
        key_hash=b"\1\2",
        sent={"username": "somebody", "name": "Кто-то"},
    )


def test_what_waits_on_disk_comes_into_the_table_as_it_was(
    tools: Tools, spool: Spool, upkeep: Upkeep, rows: Rows
) -> None:
    new = attempt()
    errors = (FieldError("phone", "invalid_phone", "too_short", {"digits": 3}),)
    tools.database.breaker.give_up(time.monotonic())
    assert attempts.record(tools.database, spool, new, status=422, code="invalid_phone", errors=errors)

    upkeep.round()

    [row] = rows.attempts()
    assert (row["id"], row["status"], row["answered"], row["via"]) == (new.id, 422, 422, "spool")
    assert row["received_at"] == new.received_at
    assert row["errors"] == [errors[0].as_json()]
    assert (row["username"], bytes(row["key_hash"])) == ("somebody", b"\1\2")
    assert not tools.database.breaker.is_open


def test_draining_again_what_is_in_the_table_already_changes_nothing(tools: Tools, spool: Spool, rows: Rows) -> None:
    new = attempt()
    for _ in range(2):
        tools.database.breaker.give_up(time.monotonic())
        attempts.record(tools.database, spool, new, status=503, code="database_unavailable")
        attempts.drain(tools.database, spool)

    assert rows.ends() == [(503, "database_unavailable")]


def test_an_interrupted_attempt_is_recorded_unless_it_had_committed(tools: Tools, spool: Spool, rows: Rows) -> None:
    lost, committed = attempt(), attempt()
    attempts.record(tools.database, spool, committed, status=422, code="invalid_phone")
    for one in (lost, committed):
        spool.append(AttemptRecord.interrupted(one).to_line())

    attempts.drain(tools.database, spool)

    found = {row["id"]: (row["status"], row["code"], row["answered"], row["via"]) for row in rows.attempts()}
    assert found[lost.id] == (0, "interrupted", None, "recovered")
    assert found[committed.id] == (422, "invalid_phone", None, "direct")


def test_lines_that_are_no_attempts_and_rows_that_postgres_refuses_go_to_quarantine(
    tools: Tools, spool: Spool, rows: Rows
) -> None:
    good = [AttemptRecord.interrupted(attempt()) for _ in range(5)]
    refused = replace(good[0], attempt=attempt(), status=999)
    for line in [good[0].to_line(), "{}", "not json", refused.to_line(), *(one.to_line() for one in good[1:])]:
        spool.append(line)

    attempts.drain(tools.database, spool)

    assert {row["id"] for row in rows.attempts()} == {one.attempt.id for one in good}
    assert survey(spool.root).quarantined == 3


def test_a_probe_without_work_is_the_purge_of_old_keys(tools: Tools, upkeep: Upkeep, rows: Rows) -> None:
    rows.ask(
        "insert into idempotency_keys (key_hash, fingerprint, user_id, kid, expires_at) values"
        " ('old', '', gen_random_uuid(), '', now() - interval '1 s'),"
        " ('new', '', gen_random_uuid(), '', now() + interval '1 h')"
    )
    for way in (tools.database, tools.reading):
        way.breaker.give_up(time.monotonic())

    upkeep.round()

    assert [bytes(row["key_hash"]) for row in rows.of("idempotency_keys")] == [b"new"]
    assert not tools.database.breaker.is_open
    assert not tools.reading.breaker.is_open


def test_an_open_breaker_answers_at_once_and_a_probe_gets_through(tools: Tools) -> None:
    tools.database.breaker.give_up(time.monotonic())

    with pytest.raises(DatabaseUnavailableError):
        tools.database.transact(_one)

    assert tools.database.probe(_one) == 1
    assert tools.database.transact(_one) == 1


def test_a_read_only_server_does_not_count_as_back(tools: Tools, upkeep: Upkeep, rows: Rows) -> None:
    [name] = [row["name"] for row in rows.ask("select current_database() as name")]
    rows.ask(f'alter database "{name}" set default_transaction_read_only = on')
    try:
        tools.database._engine.dispose()
        tools.database.breaker.give_up(time.monotonic())
        upkeep.round()
        assert tools.database.breaker.is_open
    finally:
        _make_writable(tools.reading, name)
        tools.database._engine.dispose()

    upkeep.round()

    assert not tools.database.breaker.is_open


def test_the_thread_stops_and_gives_the_spool_back(upkeep: Upkeep, spool: Spool) -> None:
    spool.open()
    upkeep.ensure_running()
    upkeep.ensure_running()

    upkeep.stop(10)

    other = Spool(spool.root)
    assert other.open()._path.name == "000"
    other.close()


def _one(connection: object) -> int:
    return 1


def _make_writable(reading: Database, name: str) -> None:
    def work(connection: object) -> None:
        connection.exec_driver_sql("set transaction read write")  # type: ignore[attr-defined]
        connection.exec_driver_sql(f'alter database "{name}" reset default_transaction_read_only')  # type: ignore[attr-defined]

    reading.transact(work)
    reading._engine.dispose()
