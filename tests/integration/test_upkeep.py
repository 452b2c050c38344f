"""Upkeep: draining, probing, purging, checking the disk."""

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from project.database import Database
from project.domain.attempts import NewAttempt, new_id
from project.domain.errors import DatabaseUnavailableError, FieldError
from project.domain.records import SPOOL, AttemptRecord
from project.queries.registration import insert_attempts
from project.runtime import Runtime
from project.services import attempts
from project.services.attempts import Delivery
from project.services.status import find_problem
from project.services.upkeep import Job, Upkeep
from project.spool import Spool, read_status
from tests.chaos.processes import eventually
from tests.conftest import Rows


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """A separate spool."""
    return Spool(tmp_path)


@pytest.fixture
def upkeep(runtime: Runtime, spool: Spool) -> Upkeep:
    """An upkeep that only the test runs."""
    return Upkeep(runtime.database, runtime.read_database, spool, keep_days=30, phone_region="RU")


def attempt() -> NewAttempt:
    """Return an attempt that has just been received."""
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


def test_a_process_drains_orphans_after_it_has_locked_its_folder(spool: Spool, upkeep: Upkeep) -> None:
    """Otherwise it could take its future folder for an orphan, and create a second one."""
    dead = [Spool(spool.root), Spool(spool.root)]
    for one in dead:
        one.append("no record")
    for one in dead:
        one.close()
    drain_orphans = Job(upkeep._drain_orphans, every_s=60)

    upkeep.run_round([drain_orphans])
    records_before = read_status(spool.root).records
    spool.open()
    upkeep.run_round([drain_orphans])

    assert (records_before, read_status(spool.root).records) == (2, 1)


def test_spooled_attempts_are_stored_in_the_table_unchanged(
    runtime: Runtime, spool: Spool, upkeep: Upkeep, rows: Rows
) -> None:
    new = attempt()
    errors = (FieldError("phone", "invalid_phone", "too_short", {"digits": 3}),)
    runtime.database.breaker.record_failure(time.monotonic())
    assert attempts.record_attempt(runtime.database, spool, new, status=422, code="invalid_phone", errors=errors)

    upkeep.run_round()

    [row] = rows.attempts()
    assert (row["id"], row["status"], row["answered"], row["via"]) == (new.id, 422, 422, "spool")
    assert row["received_at"] == new.received_at
    assert row["errors"] == [errors[0].as_json()]
    assert (row["username"], bytes(row["key_hash"])) == ("somebody", b"\1\2")
    assert not runtime.database.breaker.is_open


def test_draining_an_attempt_that_is_in_the_table_already_changes_nothing(
    runtime: Runtime, spool: Spool, rows: Rows
) -> None:
    new = attempt()
    for _ in range(2):
        runtime.database.breaker.record_failure(time.monotonic())
        attempts.record_attempt(runtime.database, spool, new, status=503, code="database_unavailable")
        Delivery(runtime.database).drain(spool)

    assert rows.outcomes() == [(503, "database_unavailable")]


def test_an_interrupted_attempt_is_recorded_unless_it_had_committed(runtime: Runtime, spool: Spool, rows: Rows) -> None:
    lost, committed = attempt(), attempt()
    attempts.record_attempt(runtime.database, spool, committed, status=422, code="invalid_phone")
    for one in (lost, committed):
        spool.append(AttemptRecord.interrupted(one).to_line())

    Delivery(runtime.database).drain(spool)

    found = {row["id"]: (row["status"], row["code"], row["answered"], row["via"]) for row in rows.attempts()}
    assert found[lost.id] == (0, "interrupted", None, "recovered")
    assert found[committed.id] == (422, "invalid_phone", None, "direct")


POISON: dict[str, dict[str, Any] | str] = {
    "no JSON": "{",
    "empty": "",
    "a list": "[]",
    "null": "null",
    "nothing in it": "{}",
    "id is a number": {"id": 5},
    "id is no UUID": {"id": "5"},
    "time is null": {"received_at": None},
    "time is text": {"received_at": "yesterday"},
    "status is text": {"status": "many"},
    "status is none": {"status": 999},
    "status is too large": {"status": 10**12},
    "key is a number": {"key_hash": 7},
    "key is no hexadecimal": {"key_hash": "zz"},
    "sent is null": {"sent": None},
    "sent is a list": {"sent": [1, 2]},
    "errors is a number": {"errors": 7},
    "errors of another kind": {"errors": [{"colour": "red"}]},
    "NUL": {"method": "PO\0ST"},
    "half a character": {"method": "PO\ud800ST"},
    "NUL in what was sent": {"sent": {"username": "a\0b"}},
    "unknown via": {"via": "magic"},
}
"""Invalid lines, or changes that make a valid line invalid."""


def test_invalid_lines_and_rows_refused_by_postgresql_are_quarantined(
    runtime: Runtime, spool: Spool, rows: Rows
) -> None:
    good = [AttemptRecord.interrupted(attempt()) for _ in range(2 * len(POISON))]
    for one, poison in zip(good, [*POISON.values(), *POISON.values()], strict=True):
        like = json.loads(replace(one, attempt=attempt()).to_line())
        spool.append(one.to_line())
        spool.append(poison if isinstance(poison, str) else json.dumps(like | poison))

    Delivery(runtime.database).drain(spool)

    assert {row["id"] for row in rows.attempts()} == {one.attempt.id for one in good}
    assert read_status(spool.root).quarantined == 2 * len(POISON)


def _raising(sqlstate: str) -> Callable[[Connection, object], None]:
    """Return a substitute for insert_attempts() with which PostgreSQL raises this error."""
    statement = text(f"do $$ begin raise 'provoked' using errcode = '{sqlstate}'; end $$")

    def insert(connection: Connection, records: object) -> None:
        connection.execute(statement)

    return insert


_time_out, _run_out_of_space = _raising("57014"), _raising("53100")


@pytest.mark.parametrize("sqlstate", ["53100", "58030", "XX000", "42P01"])
def test_errors_of_the_server_leave_attempts_in_the_spool(
    runtime: Runtime, spool: Spool, rows: Rows, monkeypatch: pytest.MonkeyPatch, sqlstate: str
) -> None:
    spool.append(AttemptRecord.interrupted(attempt()).to_line())
    with monkeypatch.context() as broken:
        broken.setattr(attempts, "insert_attempts", _raising(sqlstate))
        with pytest.raises(DatabaseUnavailableError):
            Delivery(runtime.database).drain(spool)

    assert Delivery(runtime.database).drain(spool) == 1
    assert rows.outcomes() == [(0, "interrupted")]


def test_expired_idempotency_keys_are_purged_as_a_probe_of_the_database(
    runtime: Runtime, upkeep: Upkeep, rows: Rows
) -> None:
    rows.query(
        "insert into idempotency_keys (key_hash, fingerprint, user_id, kid, expires_at) values"
        " ('old', '', gen_random_uuid(), '', now() - interval '1 s'),"
        " ('new', '', gen_random_uuid(), '', now() + interval '1 h')"
    )
    for database in (runtime.database, runtime.read_database):
        database._engine.dispose()  # an earlier test may have terminated pooled sessions
        database.breaker.record_failure(time.monotonic())

    upkeep.run_round()

    assert [bytes(row["key_hash"]) for row in rows.of("idempotency_keys")] == [b"new"]
    assert not runtime.database.breaker.is_open
    assert not runtime.read_database.breaker.is_open


def _spool_503(spool: Spool) -> NewAttempt:
    """Spool an attempt that was answered 503."""
    one = attempt()
    spool.append(AttemptRecord(attempt=one, status=503, answered=503, code="database_unavailable", via=SPOOL).to_line())
    return one


def test_the_probe_closes_the_breaker_while_no_spooled_attempt_can_be_inserted_in_time(
    runtime: Runtime, spool: Spool, upkeep: Upkeep, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spool_503(spool)
    runtime.database.breaker.record_failure(time.monotonic())
    with monkeypatch.context() as slow:
        slow.setattr(attempts, "insert_attempts", _time_out)
        upkeep.run_round()

        assert not runtime.database.breaker.is_open
        assert rows.outcomes() == []
    assert spool.has_records()


def _skip_pause(delivery: attempts.Delivery) -> float:
    """Make the next try of the only postponed record due; return the pause that was left out."""
    [(record, postponement)] = delivery._postponed.items()
    delivery._postponed[record] = postponement._replace(retry_at=0.0)
    return postponement.pause_s


@pytest.mark.slow
def test_an_undecided_attempt_is_postponed_and_the_others_are_inserted(
    runtime: Runtime, spool: Spool, upkeep: Upkeep, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled = [_spool_503(spool) for _ in range(5)]
    monkeypatch.setattr(attempts, "POSTPONE_S", 30)
    monkeypatch.setattr(attempts, "MAX_POSTPONE_S", 60)
    connection = runtime.database._engine.raw_connection()
    connection.cursor().execute(
        "insert into attempts (id, received_at, status, code, via, method, language, client_address, user_agent,"
        " duration_ms) values (%s, now(), 201, 'created', 'direct', 'POST', 'en', '', '', 1)",
        (str(spooled[2].id),),
    )

    upkeep.run_round()

    assert {row["id"] for row in rows.attempts()} == {one.id for one in spooled if one is not spooled[2]}
    assert read_status(spool.root).records == 1
    assert not runtime.database.breaker.is_open
    upkeep.run_round()
    assert _skip_pause(upkeep._delivery) == 30, "it is not tried again at once"
    upkeep.run_round()
    assert _skip_pause(upkeep._delivery) == 60
    upkeep.run_round()
    assert _skip_pause(upkeep._delivery) == 60, "the pause is bounded"
    connection.rollback()
    connection.close()
    upkeep.run_round()
    assert {row["id"] for row in rows.attempts()} == {one.id for one in spooled}
    assert not spool.has_records()


def test_batches_shrink_after_a_timeout_and_grow_again(
    runtime: Runtime, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    real = insert_attempts

    def insert(connection: Connection, records: Sequence[AttemptRecord]) -> None:
        sizes.append(len(records))
        if len(records) > 2:
            _time_out(connection, records)
        real(connection, records)

    monkeypatch.setattr(attempts, "insert_attempts", insert)
    lines = [AttemptRecord.interrupted(attempt()).to_line() for _ in range(9)]

    assert Delivery(runtime.database)._deliver(lines) == ([], [])

    assert sizes == [9, 4, 2, 4, 2, 4, 2, 3, 1, 2]
    assert len(rows.attempts()) == 9


def test_postgresql_without_space_for_tables_does_not_close_the_breaker(
    runtime: Runtime, spool: Spool, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spool_503(spool)
    runtime.database.breaker.record_failure(time.monotonic())
    with monkeypatch.context() as full:
        full.setattr(attempts, "insert_attempts", _run_out_of_space)
        upkeep.run_round()
        runtime.database.breaker.record_failure(time.monotonic())
        for _ in range(3):
            upkeep.run_round()
        with pytest.raises(DatabaseUnavailableError):
            runtime.database.write_transaction(_one)

    upkeep.run_round()

    assert runtime.database.write_transaction(_one) == 1
    assert not spool.has_records()


def test_the_probe_does_not_wait_for_a_drain(
    runtime: Runtime, spool: Spool, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go = threading.Event(), threading.Event()

    def block(*_: object) -> None:
        entered.set()
        assert go.wait(10)

    monkeypatch.setattr(attempts, "insert_attempts", block)
    _spool_503(spool)
    upkeep.ensure_running()
    assert entered.wait(10)
    runtime.database.breaker._last_success = 0.0

    runtime.database.breaker.record_failure(time.monotonic())

    eventually(lambda: not runtime.database.breaker.is_open, 10, "the probe waits for the drain")
    go.set()
    upkeep.stop(10)


def test_an_attempt_is_spooled_whatever_the_driver_raises(
    runtime: Runtime, spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise UnicodeDecodeError("utf-8", b"\xcf", 0, 1, "invalid start byte")

    monkeypatch.setattr(attempts, "insert_attempt", fail)

    assert attempts.record_attempt(runtime.database, spool, attempt(), status=422, code="invalid_phone")

    assert spool.has_records()
    assert "UnicodeDecodeError" in caplog.text


def test_an_unusable_spool_is_logged_once_and_recovers(
    runtime: Runtime, spool: Spool, upkeep: Upkeep, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for job in upkeep._jobs["disk"]:
        job.every_s = 0
    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", fail)
        upkeep.run_round()
        upkeep.run_round()
        assert find_problem(spool, upkeep) == "spool_unusable"
    upkeep.run_round()

    assert find_problem(spool, upkeep) is None
    messages = [record.message for record in caplog.records if record.message.startswith("spool")]
    assert messages == ["spool unusable", "spool usable again"]


def test_an_open_breaker_refuses_at_once_but_lets_a_probe_through(runtime: Runtime) -> None:
    runtime.database.breaker.record_failure(time.monotonic())

    with pytest.raises(DatabaseUnavailableError):
        runtime.database.write_transaction(_one)

    assert runtime.database.run_once(_one) == 1
    assert runtime.database.write_transaction(_one) == 1


def test_a_read_only_server_does_not_close_the_breaker(runtime: Runtime, upkeep: Upkeep, rows: Rows) -> None:
    [name] = [row["name"] for row in rows.query("select current_database() as name")]
    rows.query(f'alter database "{name}" set default_transaction_read_only = on')
    try:
        runtime.database._engine.dispose()
        runtime.database.breaker.record_failure(time.monotonic())
        upkeep.run_round()
        assert runtime.database.breaker.is_open
    finally:
        _make_writable(runtime.read_database, name)
        runtime.database._engine.dispose()

    upkeep.run_round()

    assert not runtime.database.breaker.is_open


def test_a_stopped_upkeep_releases_its_spool(upkeep: Upkeep, spool: Spool) -> None:
    spool.open()
    upkeep.ensure_running()
    upkeep.ensure_running()

    upkeep.stop(10)

    other = Spool(spool.root)
    assert other.open()._path.name == "000"
    other.close()


def _one(connection: object) -> int:
    return 1


def _make_writable(database: Database, name: str) -> None:
    def work(connection: object) -> None:
        connection.exec_driver_sql("set transaction read write")  # type: ignore[attr-defined]
        connection.exec_driver_sql(f'alter database "{name}" reset default_transaction_read_only')  # type: ignore[attr-defined]

    database.write_transaction(work)
    database._engine.dispose()
