"""Import pages: upload, check, create, and the downloads of passwords and refused rows."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import UUID
from zipfile import ZIP_DEFLATED, ZipFile

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openpyxl import Workbook, load_workbook
from sqlalchemy.engine.base import RootTransaction
from sqlalchemy.exc import DBAPIError
from werkzeug.test import TestResponse

from project.contract import import_runner
from project.contract.import_runner import MAX_FILE_BYTES, MAX_ROWS, ImportRunner, get_import_runner
from project.database import DeadlineError
from project.domain.audit import Action, NewEntry
from project.domain.errors import DatabaseUnavailableError
from project.domain.imports import CreatedRow, StoredRow
from project.http import reauthentication
from project.queries import imports as queries
from project.runtime import get_runtime
from project.services import imports as service
from tests.builders import ANNA, HTML, csrf_token, log_in, useradd
from tests.conftest import MakeApp, Rows

DATA = Path(__file__).parents[1] / "data" / "import"
UPLOAD = "/admin/imports/new/"
PEOPLE = """Имя;Логин;Тел.;Почта
Ольга;olga;+79991234501;
Павел;pavel;;orlov@example.org
Пётр;пётр;12;
Ольга;olga;8 999 123-45-01;
"""
Work = Callable[[], None]


@pytest.fixture
def client(client: FlaskClient, app: Flask) -> FlaskClient:
    """A browser on empty tables that shares nothing with a second browser."""
    return app.test_client()


@pytest.fixture(autouse=True)
def work(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Process all imports in the thread of the test."""
    monkeypatch.setattr(ImportRunner, "wake", lambda _: None)

    def work() -> None:
        with app.app_context():
            while get_import_runner().process_next():
                pass

    return work


def upload(client: FlaskClient, content: str | bytes, name: str = "люди.csv", **fields: str) -> TestResponse:
    """Choose a file and send the form."""
    parts = {"csrf_token": csrf_token(client.get(UPLOAD).text), **fields}
    body = "".join(f'--x\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{parts[key]}\r\n' for key in parts)
    body += f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    raw = content.encode() if isinstance(content, str) else content
    data = body.encode() + raw + b"\r\n--x--\r\n"  # Werkzeug's own encoder leaves large files open
    return client.post(UPLOAD, data=data, content_type="multipart/form-data; boundary=x", headers=HTML)


def confirm(client: FlaskClient, address: str, **fields: str) -> TestResponse:
    """Send the form of a page."""
    return client.post(address, data={"csrf_token": csrf_token(client.get(address).text), **fields}, headers=HTML)


def totals(page: str) -> list[int]:
    """Return the counts on top of the page of an import."""
    return [int(number) for number in re.findall(r'<div class="card"><dt>[^<]+</dt><dd>([\d\s]+)</dd>', page)]


def read_csv(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig")), delimiter=";"))


def created(client: FlaskClient, work: Work, content: str | bytes = PEOPLE, name: str = "люди.csv") -> str:
    """Upload a file and create its users; return the address of the import."""
    address = upload(client, content, name).location
    work()
    confirm(client, address)
    work()
    return address


def test_a_file_is_checked_before_anybody_is_created(administrator: FlaskClient, rows: Rows, work: Work) -> None:
    address = upload(administrator, PEOPLE).location
    waiting = administrator.get(address).text
    work()

    page = administrator.get(address, headers={"Accept-Language": "en"}).text

    assert "люди.csv" in waiting
    assert 'data-hx-trigger="every 1s"' in waiting
    assert totals(page) == [4, 2, 1, 1]
    assert re.search(r'class="wrong">.*?</span>12</span></td>', page)
    assert "<b>Тел.:</b>" in page
    assert "2 users will be created." in page
    assert len(rows.of("users")) == 1
    assert rows.query("select content from imports") == [{"content": None}]


def test_users_are_created_and_can_log_in_with_the_downloaded_passwords(
    administrator: FlaskClient, rows: Rows, work: Work, app: Flask
) -> None:
    address = created(administrator, work)

    file = confirm(administrator, f"{address}credentials/")

    head, *people = read_csv(file.data)
    assert head == ["name", "login", "password", "phone", "e-mail"]
    assert [(line[0], line[1], line[3], line[4]) for line in people] == [
        ("Ольга", "olga", "+79991234501", ""),
        ("Павел", "pavel", "", "orlov@example.org"),
    ]
    assert all(log_in(app.test_client(), line[1], line[2]).location == "/results/" for line in people)
    assert file.headers["Cache-Control"] == "no-store"
    assert totals(administrator.get(address).text) == [4, 2, 1, 1]
    outcomes = [(row["method"], row["code"], row["user_agent"]) for row in rows.attempts()[1:]]
    assert outcomes == [("POST", "created", "import")] * 2


def test_passwords_are_downloaded_once_and_stored_nowhere(
    administrator: FlaskClient, rows: Rows, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    address = created(administrator, work)
    stored = str(rows.of("imports") + rows.of("import_rows"))
    form = {"csrf_token": csrf_token(administrator.get(f"{address}credentials/").text)}

    first = administrator.post(f"{address}credentials/", data=form)
    again = administrator.post(f"{address}credentials/", data=form)

    passwords = [line[2] for line in read_csv(first.data)[1:]]
    assert (len(passwords), all(passwords)) == (2, True)
    assert (again.status_code, again.location) == (302, address)
    assert not any(password in stored + caplog.text + str(rows.of("imports")) for password in passwords)
    assert "credentials" not in administrator.get(address).text.replace("credentials_at", "")


def test_simultaneous_downloads_give_the_passwords_to_one(administrator: FlaskClient, app: Flask, work: Work) -> None:
    address = created(administrator, work)
    import_id = UUID(address.split("/")[-2])
    with app.app_context():
        database = get_runtime().database
        entries = [NewEntry.by_user(Action.DOWNLOADED, import_id) for _ in range(2)]
        taken = [database.write_transaction(queries.download_credentials, import_id, entry) for entry in entries]

    assert [found is None for found in taken] == [False, True]


def test_passwords_are_downloaded_although_the_connection_breaks_at_the_commit(
    administrator: FlaskClient, rows: Rows, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = created(administrator, work)
    form = {"csrf_token": csrf_token(administrator.get(f"{address}credentials/").text)}
    commit, download = RootTransaction.commit, queries.download_credentials
    tries: list[object] = []

    def break_once(transaction: RootTransaction) -> None:
        commit(transaction)
        if len(tries) == 1:
            raise DBAPIError.instance("COMMIT", {}, DeadlineError("gone"), psycopg2.Error)

    def count(*args: Any) -> list[CreatedRow] | None:
        tries.append(args)
        return download(*args)

    monkeypatch.setattr(queries, "download_credentials", count)
    monkeypatch.setattr(RootTransaction, "commit", break_once)
    file = administrator.post(f"{address}credentials/", data=form)

    monkeypatch.undo()
    assert len(tries) == 2
    assert [line[1] for line in read_csv(file.data)[1:]] == ["olga", "pavel"]
    assert len(rows.query("select 1 from audit_log where action = 'downloaded'")) == 1


def test_nobody_gets_the_password_that_a_user_has_changed(administrator: FlaskClient, rows: Rows, work: Work) -> None:
    address = created(administrator, work)
    rows.query("update users set password_changed_at = now() where username = 'olga'")

    lines = read_csv(confirm(administrator, f"{address}credentials/").data)

    assert [bool(line[2]) for line in lines[1:]] == [False, True]


def test_data_of_created_users_is_kept_only_in_their_table(administrator: FlaskClient, rows: Rows, work: Work) -> None:
    created(administrator, work)

    kept = rows.query("select number, cells, body from import_rows where cells is not null order by number")

    assert [(row["number"], row["body"]) for row in kept if row["body"]] == []
    assert 4 in [row["number"] for row in kept]
    assert not {2, 3} & {row["number"] for row in kept}


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_refused_rows_are_downloaded_as_they_stand_with_what_to_fix(
    administrator: FlaskClient, work: Work, ending: str
) -> None:
    address = created(administrator, work)

    file = administrator.get(f"{address}refused.{ending}", headers={"Accept-Language": "ru"})

    if ending == "csv":
        head, line = read_csv(file.data)
    else:
        sheet = load_workbook(io.BytesIO(file.data)).worksheets[0]
        head, line = [["" if cell is None else str(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
    assert head == ["Имя", "Логин", "Тел.", "Почта", "Что исправить"]
    assert line[:4] == ["Пётр", "пётр", "12", ""]
    assert line[4].startswith("Строка 4. Тел.: ")


def test_taken_logins_are_refused_when_the_users_are_created(
    administrator: FlaskClient, rows: Rows, work: Work
) -> None:
    useradd(administrator, ANNA | {"username": "olga"})

    address = created(administrator, work)

    assert totals(administrator.get(address).text) == [4, 1, 2, 1]
    assert "olga" in administrator.get(f"{address}refused.csv").text


def die_after_group(dying: pytest.MonkeyPatch, number: int) -> None:
    """End the process when it has created the users of a group, and not stored their outcomes."""
    record, calls = queries.record_outcomes, []

    def die_or_record(*args: object) -> None:
        calls.append(args)
        if len(calls) == number:
            raise KeyboardInterrupt
        record(*args)  # type: ignore[arg-type]

    dying.setattr(queries, "record_outcomes", die_or_record)


def test_a_process_continues_where_a_killed_one_has_stopped(
    administrator: FlaskClient, rows: Rows, work: Work, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_runner, "MAX_GROUP_SIZE", 1)
    address = upload(administrator, PEOPLE).location
    work()
    confirm(administrator, address)
    with monkeypatch.context() as dying:
        die_after_group(dying, 2)
        with pytest.raises(KeyboardInterrupt):
            work()
    work()
    during = administrator.get(address).text
    rows.query("update imports set claimed_until = now()")
    work()

    assert totals(during) == [4, 1, 1, 1, 1]
    assert totals(administrator.get(address).text) == [4, 2, 1, 1]
    assert len(rows.of("users")) == 3
    passwords = [line[2] for line in read_csv(confirm(administrator, f"{address}credentials/").data)[1:]]
    assert all(passwords)
    assert log_in(app.test_client(), "pavel", passwords[1]).location == "/results/"


def test_users_of_a_killed_process_keep_their_passwords_when_the_secret_is_rotated(
    administrator: FlaskClient, rows: Rows, work: Work, app: Flask, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = upload(administrator, PEOPLE).location
    work()
    confirm(administrator, address)
    with monkeypatch.context() as dying:
        die_after_group(dying, 1)
        with pytest.raises(KeyboardInterrupt):
            work()
    rows.query("update imports set claimed_until = now()")
    former = get_runtime(app).config.password_secret
    rotated = make_app(password_secret="a-new-secret-of-more-than-32-characters", password_secret_fallbacks=(former,))

    with rotated.app_context():
        get_import_runner().process_next()
        database, passwords = get_runtime().database, get_runtime().passwords
        run = service.get_import(database, UUID(address.split("/")[-2]))
        issued = service.download_credentials(database, passwords, run, rows.of("users")[0]["id"])

    assert [row[1] for row in issued] == ["olga", "pavel"]
    assert all(log_in(app.test_client(), row[1], row[2]).location == "/results/" for row in issued)


def test_an_import_waits_while_postgresql_is_unavailable(
    administrator: FlaskClient, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = upload(administrator, PEOPLE).location
    work()
    confirm(administrator, address)
    with monkeypatch.context() as outage:
        outage.setattr(import_runner, "register_rows", lambda *_: (_ for _ in ()).throw(DatabaseUnavailableError()))
        with pytest.raises(DatabaseUnavailableError):
            work()

    page = administrator.get(address).text

    assert "<progress" in page
    assert totals(page) == [4, 0, 1, 1, 2]


def signal_finished_check(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Return an event that is set when a check of a file has finished."""
    done, finish_check = Event(), queries.finish_check

    def finish(*args: object) -> None:
        finish_check(*args)  # type: ignore[arg-type]
        done.set()

    monkeypatch.setattr(queries, "finish_check", finish)
    return done


def test_the_thread_of_a_process_does_the_work_when_it_is_woken(
    administrator: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = ImportRunner(get_runtime(app))
    upload(administrator, PEOPLE)
    monkeypatch.undo()
    done = signal_finished_check(monkeypatch)

    runner.wake()

    assert done.wait(30)
    runner.stop()


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("name,username,age\n", "a.csv", "or tick “Ignore columns with unknown names”"),
        ("name,username\n", "a.csv", "no rows"),
        ("x", "a.xls", "old Excel"),
        ("x", "a.ndjson", "must end in one of: .csv, .xlsx"),
        ((DATA / "password.xlsx").read_bytes(), "a.xlsx", "protected by a password"),
        ((DATA / "broken_xml.xlsx").read_bytes(), "a.xlsx", "damaged at row 268"),
        ("name,username,phone\n" + "a,b,c\n" * (MAX_ROWS + 1), "a.csv", "more than 10,000 rows"),
    ],
)
def test_a_file_that_cannot_be_read_is_explained_and_leaves_no_rows(
    administrator: FlaskClient, rows: Rows, work: Work, content: str | bytes, name: str, message: str
) -> None:
    address = upload(administrator, content, name).location
    work()

    assert message in administrator.get(address, headers={"Accept-Language": "en"}).text
    assert rows.of("import_rows") == []
    assert rows.query("select content from imports") == [{"content": None}]


def test_a_small_workbook_that_would_need_a_gigabyte_is_refused(administrator: FlaskClient, work: Work) -> None:
    file = io.BytesIO()
    Workbook().save(file)
    with ZipFile(file, "a", ZIP_DEFLATED) as archive:
        archive.writestr("xl/large.xml", b"<c/>" * 5 * 2**20)

    address = upload(administrator, file.getvalue(), "a.xlsx").location
    work()

    assert "unpacks to more than 16 MB" in administrator.get(address, headers={"Accept-Language": "en"}).text


def test_unknown_columns_are_ignored_if_that_is_ticked(administrator: FlaskClient, work: Work) -> None:
    address = upload(administrator, "name,username,phone,age\nA,abc,+79991234567,5\n", ignore_unknown="y").location
    work()

    page = administrator.get(address, headers={"Accept-Language": "en"}).text

    assert "Ignored columns: age." in page
    assert totals(page) == [1, 1, 0, 0]


def test_a_form_without_a_file_says_so(administrator: FlaskClient) -> None:
    response = administrator.post(UPLOAD, data={"csrf_token": csrf_token(administrator.get(UPLOAD).text)})

    assert (response.status_code, 'id="file-error"' in response.text) == (422, True)


def test_only_this_address_takes_large_bodies_and_only_from_administrators(
    administrator: FlaskClient, app: Flask, rows: Rows
) -> None:
    large = "name,username\n" + "#" * 100_000
    too_large = "#" * (MAX_FILE_BYTES + 1)
    stranger = app.test_client()

    assert upload(administrator, large).status_code == 302
    refused = upload(administrator, too_large)
    assert (refused.status_code, f"{MAX_FILE_BYTES // 1024} " in refused.text) == (413, True)
    assert stranger.post(UPLOAD, data={"file": (io.BytesIO(large.encode()), "a.csv")}).status_code == 302
    assert administrator.post("/admin/api-keys/new/", data={"name": large}).status_code == 413
    assert len(rows.of("imports")) == 1


def test_an_upload_without_a_token_is_refused(administrator: FlaskClient, rows: Rows) -> None:
    response = administrator.post(UPLOAD, data={"file": (io.BytesIO(PEOPLE.encode()), "a.csv")})

    assert response.status_code == 400
    assert rows.of("imports") == []


@pytest.mark.parametrize("path", ["", "new/", "{id}/", "{id}/credentials/", "{id}/refused.csv"])
def test_the_pages_are_for_administrators_only(administrator: FlaskClient, rows: Rows, work: Work, path: str) -> None:
    address = created(administrator, work)
    rows.query("update users set is_admin = false, role = 'auditor' where username = 'petrov.ivan'")

    response = administrator.get("/admin/imports/" + path.format(id=address.split("/")[-2]))

    assert response.status_code == 403


def test_creating_and_downloading_ask_for_the_password_after_a_while(
    administrator: FlaskClient, rows: Rows, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = upload(administrator, PEOPLE).location
    work()
    monkeypatch.setattr(reauthentication, "is_required", lambda: True)

    refused = confirm(administrator, address)
    work()
    monkeypatch.undo()
    monkeypatch.setattr(ImportRunner, "wake", lambda _: None)
    confirm(administrator, address)
    work()
    monkeypatch.setattr(reauthentication, "is_required", lambda: True)
    download = confirm(administrator, f"{address}credentials/")

    assert (refused.status_code, download.status_code) == (422, 422)
    assert len(rows.of("users")) == 3
    assert rows.query("select credentials_at from imports") == [{"credentials_at": None}]


def test_the_audit_log_names_the_import_and_the_download(administrator: FlaskClient, rows: Rows, work: Work) -> None:
    confirm(administrator, f"{created(administrator, work)}credentials/")

    entries = rows.query("select actor, action, details from audit_log order by id")

    assert [(entry["actor"], entry["action"]) for entry in entries] == [
        ("petrov.ivan", "imported"),
        ("petrov.ivan", "downloaded"),
    ]
    assert entries[0]["details"] == {"name": "люди.csv", "created": 2}
    assert entries[1]["details"] == {"format": "csv", "file": "passwords"}


def test_imports_are_deleted_after_a_day(administrator: FlaskClient, rows: Rows, app: Flask, work: Work) -> None:
    created(administrator, work)
    rows.query("update imports set created_at = now() - interval '25 hours'")
    with app.app_context():
        get_runtime().database.run_once(queries.delete_expired_imports)

    assert (rows.of("imports"), rows.of("import_rows")) == ([], [])


def test_many_expired_imports_are_deleted_in_several_transactions(
    administrator: FlaskClient, rows: Rows, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "EXPIRED_BATCH", 1)
    for _ in range(3):
        upload(administrator, PEOPLE)
    rows.query("update imports set created_at = now() - interval '25 hours'")
    runner = ImportRunner(get_runtime(app))

    runner.process_next()
    left = len(rows.of("imports"))
    while runner.process_next():
        pass

    assert (left, rows.of("imports")) == (2, [])


def test_a_process_that_was_slow_does_not_undo_the_check_of_another_one(
    administrator: FlaskClient, rows: Rows, app: Flask, work: Work
) -> None:
    address = upload(administrator, PEOPLE).location
    work()
    import_id = UUID(address.split("/")[-2])
    with app.app_context():
        database = get_runtime().database
        late = StoredRow(number=99, cells=("x",), body={})

        database.write_transaction(queries.fail_import, import_id, {"code": "not_workbook", "params": {}})
        database.write_transaction(queries.add_rows, import_id, [late])

    assert totals(administrator.get(address).text) == [4, 2, 1, 1]


def test_an_import_waits_for_an_instance_with_its_secret(
    administrator: FlaskClient, rows: Rows, work: Work, app: Flask, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    address = upload(administrator, PEOPLE).location
    work()
    confirm(administrator, address)
    former = make_app(password_secret="a-former-secret-of-more-than-32-characters")
    with former.app_context():
        get_import_runner().process_next()
    waiting = administrator.get(address).text
    rows.query("update imports set claimed_until = now()")

    work()

    assert "the secret of an import is not configured" in caplog.text
    assert totals(waiting) == [4, 0, 1, 1, 2]
    assert totals(administrator.get(address).text) == [4, 2, 1, 1]


def test_imports_begin_once_the_system_has_a_thread_again(
    administrator: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    runner = ImportRunner(get_runtime(app))
    upload(administrator, PEOPLE)
    monkeypatch.undo()
    with monkeypatch.context() as scarce:
        scarce.setattr(Thread, "start", fail)
        runner.wake()
    done = signal_finished_check(monkeypatch)

    runner.wake()

    assert done.wait(30)
    runner.stop()
