"""Lines as PostgreSQL writes them: every attempt once, in one picture, whatever happens meanwhile."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg2
import pytest
from sqlalchemy import Connection, text

from project.database import deadline
from project.database.semaphore import FairSemaphore
from project.domain.attempts import AttemptFilter, AttemptRow, new_id
from project.domain.errors import DatabaseUnavailableError, FieldError
from project.domain.lines import Layout
from project.domain.reports import Report
from project.exporters import csv, log_sheets
from project.exporters import text as text_file
from project.queries import snapshots
from project.queries.lines import find_lines, find_single_lines, lines_query
from project.runtime import Runtime
from project.services import reports
from tests.conftest import Rows
from tests.lines import laid_out
from tests.unit.test_exporters import ENGLISH_WORDS, FAILED, REJECTED, attempt_row

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SPRING, AUTUMN = datetime(2026, 3, 29, 0, 59, 59, 999_999, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
ZONES = ["Europe/Moscow", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "UTC"]
QUOTED: dict[str, Any] = {"errors": (FieldError('a"b', "unknown_field"), FieldError("email", "invalid_email"))}
VARIED = [
    attempt_row(),
    attempt_row(received_at=SPRING),
    attempt_row(received_at=SPRING + timedelta(seconds=1)),
    attempt_row(received_at=AUTUMN),
    attempt_row(received_at=AUTUMN + timedelta(hours=1), duration_ms=1_234_567),
    attempt_row(received_at=datetime(2026, 7, 1, tzinfo=UTC), **REJECTED),
    attempt_row(received_at=datetime(2026, 7, 2, tzinfo=UTC), **REJECTED | QUOTED),
    attempt_row(received_at=datetime(2026, 7, 3, tzinfo=UTC), **FAILED, via="spool"),
    attempt_row(status=0, answered=None, code="interrupted", via="recovered"),
    attempt_row(username=None, name=None, phone_masked=None, email_masked=None),
    attempt_row(username="=1+1", name='<b>&"x",\t\r\n', phone_masked="+7=999", email_masked="\u202e_x0041_\ufffe"),
    attempt_row(username="a\x1eb\x1e", name="\x1e"),
    attempt_row(username="\x01\x02\x03\x04", name="", phone_masked="-1", email_masked="😀" * 20_000),
]


def layouts(report: Report) -> dict[str, Layout]:
    """Return the layout of each kind of file."""
    return {
        "txt": text_file.layout(report, ENGLISH_WORDS),
        "csv": csv.layout(report),
        "xlsx": log_sheets.layout(report, ENGLISH_WORDS, [str(number) for number in range(11)]),
    }


def keep(runtime: Runtime, rows: list[AttemptRow]) -> list[AttemptRow]:
    """Keep attempts just as they are; return them as they are kept, in the order of time."""
    kept = [replace(row, id=new_id(row.received_at)) for row in rows]
    runtime.database.write_transaction(_insert, kept)
    return sorted(kept, key=lambda row: row.id)


def _insert(connection: Connection, rows: list[AttemptRow]) -> None:
    statement = text("""
        insert into attempts (id, received_at, status, answered, code, via, method, duration_ms, username, phone_masked,
                              email_masked, errors, sent, language, client_address, user_agent)
        values (:id, :received_at, :status, :answered, :code, :via, 'POST', :duration_ms, :username, :phone_masked,
                :email_masked, cast(:errors as jsonb),
                jsonb_strip_nulls(jsonb_build_object('name', cast(:name as text))), 'en', '', '')
    """)
    for row in rows:
        names = (
            *("id", "received_at", "status", "answered", "code", "via", "duration_ms", "username", "name"),
            *("phone_masked", "email_masked"),
        )
        errors = json.dumps([error.as_json() for error in row.errors])
        connection.execute(statement, {name: getattr(row, name) for name in names} | {"errors": errors})


def export(runtime: Runtime, zone: str = "UTC", chosen: AttemptFilter | None = None) -> Report:
    """Count for a file."""
    begun = reports.open_export(runtime.read_database, chosen or AttemptFilter(), ZoneInfo(zone), NOW)
    return reports.count_export(runtime.read_database, begun)


def ids_of(runtime: Runtime, report: Report, size: int = reports.BLOCK) -> Iterator[str]:
    """Yield the ids in the lines of a .csv."""
    for block in reports.iter_blocks(runtime.read_database, report, csv.layout(report), size=size):
        lines = block.content.decode().splitlines()
        assert len(lines) == block.rows
        yield from (line.partition(",")[0] for line in lines)


@contextmanager
def another_session(runtime: Runtime) -> Iterator["psycopg2.extensions.cursor"]:
    """A session past the service, in a transaction of its own."""
    url = runtime.database._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(psycopg2.connect(url)) as connection:
        yield connection.cursor()


INSERT = """
    insert into attempts (id, received_at, status, code, method, duration_ms, language, client_address, user_agent)
    values (gen_random_uuid(), now(), 422, 'invalid_phone', 'POST', 1, 'en', '', '')
"""


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("ending", ["txt", "csv", "xlsx"])
@pytest.mark.parametrize("size", [1, 5, 100])
def test_postgresql_writes_what_the_layout_says(runtime: Runtime, zone: str, ending: str, size: int) -> None:
    kept = keep(runtime, VARIED)
    report = export(runtime, zone)
    layout = layouts(report)[ending]

    blocks = list(reports.iter_blocks(runtime.read_database, report, layout, size=size))

    expected = b"".join(block.content for block in laid_out(kept)(layout))
    assert b"".join(block.content for block in blocks).split(b"\r\n") == expected.split(b"\r\n")
    assert sum(block.rows for block in blocks) == report.total == len(VARIED)


def test_an_end_that_was_not_counted_is_told_all_the_same(runtime: Runtime) -> None:
    kept = keep(runtime, [attempt_row(), attempt_row(**REJECTED)])
    layout = replace(csv.layout(export(runtime)), ends=((201, "created"),))

    blocks = reports.iter_blocks(runtime.read_database, export(runtime), layout)

    assert b"".join(block.content for block in blocks) == next(iter(laid_out(kept)(layout))).content


def test_no_attempts_are_no_lines(runtime: Runtime) -> None:
    assert list(ids_of(runtime, export(runtime))) == []


def test_a_whole_number_of_blocks_fills_a_sheet() -> None:
    assert log_sheets.MAX_ROWS % reports.BLOCK == 0


def test_a_file_has_the_rows_of_its_picture_while_others_write(
    runtime: Runtime, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "WRITER_WAIT_S", 30)
    keep(runtime, [attempt_row()] * 500)
    stop = threading.Event()

    def write() -> None:
        with another_session(runtime) as session:
            while not stop.is_set():
                for _ in range(3):
                    session.execute(INSERT)
                session.connection.commit()

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    try:
        exports = [(report, list(ids_of(runtime, report, size=97))) for report in (export(runtime) for _ in range(8))]
    finally:
        stop.set()
        for writer in writers:
            writer.join()

    for report, ids in exports:
        of_picture = "select id::text from attempts where seq <= :top order by id"
        assert ids == [row["id"] for row in rows.ask(of_picture, top=report.attempt_filter.newest)]
        assert len(ids) == report.total
    assert len({report.total for report, _ in exports}) > 1


def test_a_picture_waits_for_a_writer_that_drew_its_number_before(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Semaphore(0)

    def find_writers(connection: Connection) -> frozenset[str]:
        asked.release()
        return ask(connection)

    ask = snapshots.find_writers
    monkeypatch.setattr(snapshots, "find_writers", find_writers)
    monkeypatch.setattr(reports, "WRITER_WAIT_S", 30)
    found: list[Report] = []
    with another_session(runtime) as slow:
        slow.execute(INSERT)
        keep(runtime, [attempt_row()])
        counting = threading.Thread(target=lambda: found.append(export(runtime)))
        counting.start()
        for _ in range(3):
            assert asked.acquire(timeout=10)
        assert not found

        slow.connection.commit()
        counting.join(10)

    assert found[0].total == len(list(ids_of(runtime, found[0]))) == 2


def test_a_picture_does_not_wait_for_a_writer_that_hangs(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "WRITER_WAIT_S", 0)
    with another_session(runtime) as hanging:
        hanging.execute(INSERT)
        keep(runtime, [attempt_row()])

        assert export(runtime).total == 1


def test_what_retention_removes_meanwhile_is_missing_and_nothing_else(runtime: Runtime, rows: Rows) -> None:
    kept = [str(row.id) for row in keep(runtime, [attempt_row()] * 15)]
    found = ids_of(runtime, export(runtime), size=3)

    first = next(found)
    rows.ask("delete from attempts where id = :id", id=kept[14])
    rest = list(found)

    assert [first, *rest] == kept[:14]


@pytest.mark.parametrize("size", [1, 2, 100])
def test_no_value_leads_a_file_astray_or_divides_a_line(runtime: Runtime, size: int) -> None:
    like_a_line = f"\x1e{UUID(int=0)},2026-11-23T12:04:12+00:00,created,201,201,created,"
    kept = keep(
        runtime, [attempt_row(), attempt_row(name=like_a_line), attempt_row(username=like_a_line), attempt_row()]
    )

    report = export(runtime)
    content = b"".join(
        block.content for block in reports.iter_blocks(runtime.read_database, report, csv.layout(report), size=size)
    )

    assert [line.partition(b",")[0].decode() for line in content.split(b"\r\n")[:-1]] == [str(row.id) for row in kept]
    assert content.count(like_a_line.encode()) == 2


def test_a_slow_reader_holds_no_connection(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(runtime, [attempt_row()] * 9)
    helper = ThreadPoolExecutor(1)
    monkeypatch.setattr(reports, "ThreadPoolExecutor", lambda *_: helper)
    blocks = reports.iter_blocks(runtime.read_database, export(runtime), csv.layout(export(runtime)), size=1)

    next(blocks)
    helper.submit(int).result()  # the next lines are here, too

    assert runtime.read_database._engine.pool.status().endswith("Current Checked out connections: 0")
    assert len(list(blocks)) == 8


def test_a_file_that_nobody_wants_any_more_leaves_no_thread_behind(runtime: Runtime) -> None:
    keep(runtime, [attempt_row()] * 9)
    before = set(threading.enumerate())
    blocks = reports.iter_blocks(runtime.read_database, export(runtime), csv.layout(export(runtime)), size=1)
    next(blocks)
    assert set(threading.enumerate()) > before

    blocks.close()  # type: ignore[attr-defined]  # a generator

    assert set(threading.enumerate()) <= before


def test_of_a_block_that_is_asked_for_again_nothing_is_lost_though_a_late_attempt_came_in_between(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "WRITER_WAIT_S", 0)
    first, late = new_id(NOW - timedelta(seconds=1)), new_id(NOW)
    with another_session(runtime) as hanging:
        hanging.execute(INSERT.replace("gen_random_uuid()", "%s"), (str(late),))
        kept = keep(runtime, [attempt_row(received_at=NOW + timedelta(seconds=1), name="\x1e")] * 3)
        report = export(runtime)
        layout = csv.layout(report)
        found = find_lines(runtime.read_database, lines_query(report.attempt_filter, layout, size=3), first)
        hanging.connection.commit()

    assert found is not None
    single = find_single_lines(runtime.read_database, report.attempt_filter, layout, found)

    assert [layout.id_of(line).decode() for line in single] == [str(late), *(str(row.id) for row in kept)]


def test_a_file_may_take_longer_than_a_request(runtime: Runtime) -> None:
    keep(runtime, [attempt_row()])
    report = export(runtime)

    with deadline(0):
        assert len(list(ids_of(runtime, report))) == 1


def test_a_file_waits_for_its_turn_among_many_readers(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(runtime, [attempt_row()])
    report, turned_away, found = export(runtime), threading.Event(), list[str]()
    slots = runtime.read_database._permits
    free = slots._free
    assert all(slots.acquire(1) for _ in range(free))

    def enter(timeout_s: float) -> bool:
        entered = FairSemaphore.acquire(slots, timeout_s)
        if not entered:
            turned_away.set()
        return entered

    monkeypatch.setattr(slots, "acquire", enter)
    reading = threading.Thread(target=lambda: found.extend(ids_of(runtime, report)))
    reading.start()
    assert turned_away.wait(10)
    for _ in range(free):
        slots.release()
    reading.join(10)

    assert len(found) == 1


def test_a_file_breaks_off_when_postgresql_stays_away(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(runtime, [attempt_row()] * 9)
    found = ids_of(runtime, export(runtime), size=1)
    next(found)
    runtime.read_database.breaker.record_failure(float("inf"))

    with pytest.raises(DatabaseUnavailableError):
        list(found)
