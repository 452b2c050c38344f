"""Export lines written by PostgreSQL.

They contain every attempt of a snapshot once, despite concurrent changes.
"""

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
from project.queries.lines import find_lines_one_by_one, find_next_block, lines_query
from project.queries.masks import mask_next_attempts, set_watermark
from project.runtime import Runtime
from project.services import reports
from tests.conftest import Rows
from tests.lines import lines_of
from tests.unit.test_exporters import ENGLISH_TRANSLATIONS, FAILED, REJECTED, attempt_row

pytestmark = pytest.mark.slow  # compares many random rows with Python

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
    attempt_row(**REJECTED | {"errors": (FieldError("nam", "unknown_field", "hint", {"hint": "name"}),)}),
    attempt_row(**REJECTED | {"errors": (FieldError("phone", "invalid_phone", "of_a_later_version"),)}),
    attempt_row(
        **REJECTED | {"errors": (FieldError("phone", "of_a_later_version"), FieldError("=1+1", "unknown_field"))}
    ),
    attempt_row(**REJECTED | {"errors": (FieldError("a\tb\x01c\x1f", "unknown_field"),)}, name="\t\x01"),
    attempt_row(**REJECTED | {"errors": (FieldError("anna@example.org", "unknown_field"),)}),
    attempt_row(username="a" * 40, name="я" * 40, phone_masked="7" * 24, email_masked="a" * 41),
    attempt_row(username="я" * 41, name=" =" + "1" * 41, phone_masked="7" * 25, email_masked="=" * 41),
    attempt_row(username="\x01\x02\x03\x04", name="", phone_masked="-1", email_masked="😀" * 20_000),
]


def layouts(report: Report) -> dict[str, Layout]:
    """Return the layout of each file format."""
    return {
        "txt": text_file.layout(report, ENGLISH_TRANSLATIONS),
        "csv": csv.layout(report, ENGLISH_TRANSLATIONS),
        "xlsx": log_sheets.layout(report, ENGLISH_TRANSLATIONS, [str(number) for number in range(12)]),
    }


def store(runtime: Runtime, rows: list[AttemptRow]) -> list[AttemptRow]:
    """Store attempts unchanged; return them with their ids in the order of time."""
    stored = [replace(row, id=new_id(row.received_at)) for row in rows]
    runtime.database.write_transaction(_insert, stored)
    return sorted(stored, key=lambda row: row.id)


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


def export(runtime: Runtime, zone: str = "UTC", attempt_filter: AttemptFilter | None = None) -> Report:
    """Open a snapshot and count its attempts."""
    snapshot = reports.open_export(
        runtime.read_database, attempt_filter or AttemptFilter(unmasked=True), ZoneInfo(zone), NOW
    )
    return reports.add_export_counts(runtime.read_database, snapshot)


def ids_of(runtime: Runtime, report: Report, size: int = reports.BLOCK_LINES) -> Iterator[str]:
    """Yield the ids of a .csv export."""
    for block in reports.iter_blocks(
        runtime.read_database, report, csv.layout(report, ENGLISH_TRANSLATIONS), size=size
    ):
        lines = block.content.decode().splitlines()
        assert len(lines) == block.rows
        yield from (line.partition(",")[0] for line in lines)


@contextmanager
def another_session(runtime: Runtime) -> Iterator["psycopg2.extensions.cursor"]:
    """A separate session with its own transaction."""
    url = runtime.database._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(psycopg2.connect(url)) as connection:
        yield connection.cursor()


INSERT = """
    insert into attempts (id, received_at, status, code, method, duration_ms, language, client_address, user_agent)
    values (gen_random_uuid(), now(), 422, 'invalid_phone', 'POST', 1, 'en', '', '')
"""


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("ending", ["txt", "csv", "xlsx"])
@pytest.mark.parametrize(("size", "unmasked"), [(1, True), (5, True), (100, True), (5, False), (100, False)])
def test_postgresql_writes_the_same_lines_as_the_layout(
    runtime: Runtime, zone: str, ending: str, size: int, unmasked: bool
) -> None:
    stored = [row if unmasked else row.masked() for row in store(runtime, VARIED)]
    report = export(runtime, zone, AttemptFilter(unmasked=unmasked))
    layout = layouts(report)[ending]

    blocks = list(reports.iter_blocks(runtime.read_database, report, layout, size=size))

    expected = b"".join(block.content for block in lines_of(stored)(layout))
    assert b"".join(block.content for block in blocks).split(b"\r\n") == expected.split(b"\r\n")
    assert sum(block.rows for block in blocks) == report.total == len(VARIED)


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        *(
            "anna.1234567",
            "12345678901",
            "a@b.ru",
            ".ab@b.ru",
            "2ab@123456.ru",
            "2ab@12345.ru",
            "a.b@x.ru,c@y.ru",
            "a+b@x.ru",
        ),
        *("Анна", "Анна Соколова", "Анна  Мария ван дер Берг", "Zoë O'Brien-Łuk", "", " Анна\tСоколова ", "Анна С."),
        *("Anna 123456", "Anna 1234567", "+79125550141", "89125550141", "٨٩١٢٥٥٥٠١٤١", "²³¹²³¹²", "①②③④⑤⑥⑦"),
        *("anna@example.org", "Anna anna＠example.org", "@petrov", "王 小明", "김 철수", "علی رضا", "👩\u200d💻 Ольга"),
    ],
)
def test_postgresql_masks_logins_names_and_fields_as_pages_do(runtime: Runtime, text: str, is_stored: bool) -> None:
    error = FieldError(text or "x", "unknown_field")
    row = attempt_row(name=text, username=text, status=422, code="unknown_field", errors=(error,))
    (stored,) = store(runtime, [row])
    if is_stored:
        runtime.database.write_transaction(set_watermark, 0)
        runtime.database.write_transaction(mask_next_attempts, "RU", 10)
    report = export(runtime, attempt_filter=AttemptFilter())

    (block,) = reports.iter_blocks(runtime.read_database, report, csv.layout(report, ENGLISH_TRANSLATIONS))

    assert block.content == next(iter(lines_of([stored.masked()])(csv.layout(report, ENGLISH_TRANSLATIONS)))).content


def test_an_outcome_that_was_not_counted_is_exported_nevertheless(runtime: Runtime) -> None:
    stored = store(runtime, [attempt_row(), attempt_row(**REJECTED)])
    layout = replace(csv.layout(export(runtime), ENGLISH_TRANSLATIONS), kinds=((201, "created"),))

    blocks = reports.iter_blocks(runtime.read_database, export(runtime), layout)

    assert b"".join(block.content for block in blocks) == next(iter(lines_of(stored)(layout))).content


def test_without_attempts_there_are_no_lines(runtime: Runtime) -> None:
    assert list(ids_of(runtime, export(runtime))) == []


def test_a_sheet_is_filled_by_a_whole_number_of_blocks() -> None:
    assert log_sheets.MAX_ROWS % reports.BLOCK_LINES == 0


def test_a_file_has_exactly_the_rows_of_its_snapshot_during_concurrent_writes(
    runtime: Runtime, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "WRITER_WAIT_S", 30)
    store(runtime, [attempt_row()] * 500)
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
        of_snapshot = "select id::text from attempts where seq <= :top order by id"
        assert ids == [row["id"] for row in rows.query(of_snapshot, top=report.attempt_filter.max_seq)]
        assert len(ids) == report.total
    assert len({report.total for report, _ in exports}) > 1


def test_a_snapshot_waits_for_a_transaction_with_an_earlier_sequence_number(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = threading.Semaphore(0)

    def find_open_writers(connection: Connection) -> frozenset[str]:
        calls.release()
        return original(connection)

    original = snapshots.find_open_writers
    monkeypatch.setattr(snapshots, "find_open_writers", find_open_writers)
    monkeypatch.setattr(reports, "WRITER_WAIT_S", 30)
    found: list[Report] = []
    with another_session(runtime) as slow:
        slow.execute(INSERT)
        store(runtime, [attempt_row()])
        counting = threading.Thread(target=lambda: found.append(export(runtime)))
        counting.start()
        for _ in range(3):
            assert calls.acquire(timeout=10)
        assert not found

        slow.connection.commit()
        counting.join(10)

    assert found[0].total == len(list(ids_of(runtime, found[0]))) == 2


def test_a_snapshot_does_not_wait_for_a_hanging_transaction(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "WRITER_WAIT_S", 0)
    with another_session(runtime) as hanging:
        hanging.execute(INSERT)
        store(runtime, [attempt_row()])

        assert export(runtime).total == 1


def test_only_rows_pruned_during_an_export_are_missing(runtime: Runtime, rows: Rows) -> None:
    stored = [str(row.id) for row in store(runtime, [attempt_row()] * 15)]
    found = ids_of(runtime, export(runtime), size=3)

    first = next(found)
    rows.query("delete from attempts where id = :id", id=stored[14])
    rest = list(found)

    assert [first, *rest] == stored[:14]


@pytest.mark.parametrize("size", [1, 2, 100])
def test_values_that_look_like_lines_do_not_split_a_line(runtime: Runtime, size: int) -> None:
    like_a_line = f"\x1e{UUID(int=0)},2026-11-23T12:04:12+00:00,created,201,201,created,"
    stored = store(
        runtime, [attempt_row(), attempt_row(name=like_a_line), attempt_row(username=like_a_line), attempt_row()]
    )

    report = export(runtime)
    content = b"".join(
        block.content
        for block in reports.iter_blocks(
            runtime.read_database, report, csv.layout(report, ENGLISH_TRANSLATIONS), size=size
        )
    )

    assert [line.partition(b",")[0].decode() for line in content.split(b"\r\n")[:-1]] == [str(row.id) for row in stored]
    assert content.count(like_a_line.encode()) == 2


def test_a_slow_download_holds_no_connection(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    store(runtime, [attempt_row()] * 9)
    helper = ThreadPoolExecutor(1)
    monkeypatch.setattr(reports, "ThreadPoolExecutor", lambda *_: helper)
    blocks = reports.iter_blocks(
        runtime.read_database, export(runtime), csv.layout(export(runtime), ENGLISH_TRANSLATIONS), size=1
    )

    next(blocks)
    helper.submit(int).result()  # the next block has been read, too

    assert runtime.read_database._engine.pool.status().endswith("Current Checked out connections: 0")
    assert len(list(blocks)) == 8


def test_a_cancelled_export_leaves_no_thread_behind(runtime: Runtime) -> None:
    store(runtime, [attempt_row()] * 9)
    before = set(threading.enumerate())
    blocks = reports.iter_blocks(
        runtime.read_database, export(runtime), csv.layout(export(runtime), ENGLISH_TRANSLATIONS), size=1
    )
    next(blocks)
    assert set(threading.enumerate()) > before

    blocks.close()  # type: ignore[attr-defined]  # a generator

    assert set(threading.enumerate()) <= before


def test_a_block_that_is_read_again_loses_nothing_when_a_late_attempt_appears(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "WRITER_WAIT_S", 0)
    first, late = new_id(NOW - timedelta(seconds=1)), new_id(NOW)
    with another_session(runtime) as hanging:
        hanging.execute(INSERT.replace("gen_random_uuid()", "%s"), (str(late),))
        stored = store(runtime, [attempt_row(received_at=NOW + timedelta(seconds=1), name="\x1e")] * 3)
        report = export(runtime)
        layout = csv.layout(report, ENGLISH_TRANSLATIONS)
        found = find_next_block(runtime.read_database, lines_query(report.attempt_filter, layout, size=3), first)
        hanging.connection.commit()

    assert found is not None
    single = find_lines_one_by_one(runtime.read_database, report.attempt_filter, layout, found)

    assert [layout.id_of(line).decode() for line in single] == [str(late), *(str(row.id) for row in stored)]


def test_an_export_is_not_bound_by_the_deadline_of_the_request(runtime: Runtime) -> None:
    store(runtime, [attempt_row()])
    report = export(runtime)

    with deadline(0):
        assert len(list(ids_of(runtime, report))) == 1


def test_an_export_waits_for_a_free_permit(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    store(runtime, [attempt_row()])
    report, refused, found = export(runtime), threading.Event(), list[str]()
    permits = runtime.read_database._permits
    free = permits._free
    assert all(permits.acquire(1) for _ in range(free))

    def acquire(timeout_s: float) -> bool:
        acquired = FairSemaphore.acquire(permits, timeout_s)
        if not acquired:
            refused.set()
        return acquired

    monkeypatch.setattr(permits, "acquire", acquire)
    reading = threading.Thread(target=lambda: found.extend(ids_of(runtime, report)))
    reading.start()
    assert refused.wait(10)
    for _ in range(free):
        permits.release()
    reading.join(10)

    assert len(found) == 1


def test_an_export_is_aborted_when_postgresql_stays_unavailable(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(runtime, [attempt_row()] * 9)
    found = ids_of(runtime, export(runtime), size=1)
    next(found)
    runtime.read_database.breaker.record_failure(float("inf"))

    with pytest.raises(DatabaseUnavailableError):
        list(found)
