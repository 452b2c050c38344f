"""The audit log: who did what to whom, and when; readable by auditors and administrators."""

import csv
import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection

from project.domain.audit import Action, ActorKind, NewEntry
from project.queries import audit as queries
from project.runtime import get_runtime
from project.services import audit
from project.services.activity import MAX_ENTRIES, Activity
from tests.builders import ANNA, HTML, csrf_token, log_in, useradd
from tests.conftest import Rows

Act = Callable[[str], None]


@pytest.fixture
def client(client: FlaskClient, app: Flask) -> FlaskClient:
    """A browser on empty tables that shares no cookies with a second browser."""
    return app.test_client()


@pytest.fixture
def anna(client: FlaskClient) -> UUID:
    """The ID of another user."""
    return UUID(useradd(client, ANNA).get_json()["user"]["id"])


@pytest.fixture
def act(administrator: FlaskClient) -> Act:
    """Confirm a change."""

    def confirm(address: str) -> None:
        token = csrf_token(administrator.get(address).text)
        assert administrator.post(address, data={"csrf_token": token}).status_code in {200, 302}

    return confirm


def entries(rows: Rows) -> list[tuple[Any, ...]]:
    """Return actor, action, target and details of all entries."""
    return [(row["actor"], row["action"], row["target"], row["details"]) for row in rows.of("audit_log")]


def test_every_change_of_a_user_or_key_is_recorded(
    administrator: FlaskClient, anna: UUID, act: Act, rows: Rows
) -> None:
    for action in ("block", "unblock", "audit", "withdraw", "reset"):
        act(f"/admin/users/{anna}/{action}/")
    token = csrf_token(administrator.get("/admin/api-keys/new/").text)
    administrator.post("/admin/api-keys/new/", data={"csrf_token": token, "name": "shop front"})
    act(f"/admin/api-keys/{rows.of('api_keys')[0]['id']}/revoke/")

    assert entries(rows) == [
        ("petrov.ivan", "user_blocked", "a.sokolova", {}),
        ("petrov.ivan", "user_unblocked", "a.sokolova", {}),
        ("petrov.ivan", "role_granted", "a.sokolova", {"role": "auditor"}),
        ("petrov.ivan", "role_revoked", "a.sokolova", {}),
        ("petrov.ivan", "password_reset", "a.sokolova", {}),
        ("petrov.ivan", "key_created", "shop front", {}),
        ("petrov.ivan", "key_revoked", "shop front", {}),
    ]
    assert {row["target_id"] for row in rows.of("audit_log")[:5]} == {anna}
    assert rows.query("select bool_and(at between now() - interval '1 minute' and now()) as ok from audit_log")[0]["ok"]


def test_a_change_that_cannot_be_recorded_is_not_made(
    administrator: FlaskClient, anna: UUID, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise RuntimeError("no entry")

    monkeypatch.setattr("project.services.users.add_entry", fail)
    address = f"/admin/users/{anna}/block/"
    token = csrf_token(administrator.get(address).text)

    answer = administrator.post(address, data={"csrf_token": token})

    assert answer.status_code == 500
    assert all(row["is_active"] for row in rows.of("users"))
    assert entries(rows) == []


def test_the_page_shows_and_pages_the_log(
    administrator: FlaskClient, anna: UUID, act: Act, rows: Rows, app: Flask
) -> None:
    act(f"/admin/users/{anna}/block/")
    with app.app_context():
        for number in range(30):
            entry = NewEntry.by_user(Action.KEY_CREATED, None, None, f"key-{number:02}")
            audit.record_entry(get_runtime(app).database, entry)

    page = administrator.get("/admin/audit/?lang=en").text
    second = administrator.get(f"/admin/audit/?lang=en&before={rows.of('audit_log')[6]['id']}").text
    about = administrator.get(f"/admin/audit/?lang=en&about={anna}").text

    assert page.count("Command line") == 25
    assert page.index("key-29") < page.index("key-28")
    assert "Older" in page
    assert second.count("<tr>") == 1 + 6
    assert about.count("<tr>") == 1 + 1
    for part in ("petrov.ivan", "User blocked", f'href="/admin/users/{anna}/"'):
        assert part in about


def test_the_file_holds_the_whole_log_without_formulas(administrator: FlaskClient, app: Flask) -> None:
    with app.app_context():
        for number in range(3):
            entry = NewEntry.by_user(Action.USER_BLOCKED, None, None, f"=1+{number}", {"role": "auditor"})
            audit.record_entry(get_runtime(app).database, entry)

    response = administrator.get("/admin/audit/export.csv")
    table = list(csv.DictReader(io.StringIO(response.text)))

    assert response.headers["Content-Disposition"] == 'attachment; filename="useradd_audit_log.csv"'
    assert [row["target"] for row in table] == ["'=1+2", "'=1+1", "'=1+0"]
    assert {(row["actor_kind"], row["action"], row["details"]) for row in table} == {
        ("command", "user_blocked", "role=auditor")
    }


def test_the_file_is_longer_than_a_block(
    administrator: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "BLOCK_ENTRIES", 2)
    with app.app_context():
        for _ in range(5):
            audit.record_entry(get_runtime(app).database, NewEntry.by_user(Action.USER_BLOCKED, None))

    assert len(administrator.get("/admin/audit/export.csv").text.splitlines()) == 1 + 5


def test_a_download_about_an_invalid_id_is_refused_instead_of_containing_everything(administrator: FlaskClient) -> None:
    response = administrator.get("/admin/audit/export.csv?about=anna", headers={"Accept-Language": "en"})

    assert (response.status_code, response.get_json()["code"]) == (400, "unknown_parameter")
    assert "cannot be “anna”" in response.get_json()["detail"]
    assert administrator.get("/admin/audit/?about=anna").status_code == 200


@pytest.mark.parametrize("address", ["/admin/audit/", "/admin/audit/export.csv"])
def test_only_auditors_and_administrators_read_it(reader: FlaskClient, app: Flask, rows: Rows, address: str) -> None:
    statuses = {}
    for role in ("user", "auditor", "administrator"):
        rows.query("update users set role = :role", role=role)
        statuses[role] = reader.get(address, headers=HTML).status_code

    assert statuses == {"user": 403, "auditor": 200, "administrator": 200}


def test_an_auditor_sees_the_link_and_no_other_tab(reader: FlaskClient, rows: Rows) -> None:
    rows.query("update users set role = 'auditor'")

    page = reader.get("/admin/audit/?lang=en").text

    assert 'href="/admin/audit/"' in reader.get("/results/").text
    assert 'href="/admin/users/' not in page
    assert 'href="/admin/"' not in page


def test_downloads_are_recorded_with_their_filter_but_without_contacts(
    reader: FlaskClient, app: Flask, rows: Rows
) -> None:
    useradd(reader, ANNA)
    reader.get("/results/export.csv?period=30d&q=Anna@Example.org", buffered=True)

    get_runtime(app).activity.flush()

    [(actor, action, target, details)] = entries(rows)
    assert (actor, action, target) == ("petrov.ivan", "downloaded", None)
    assert details == {"format": "csv", "filter": "period=30d&q=A•••@Example.org", "rows": 1}


def test_a_download_by_a_program_names_its_key(client: FlaskClient, app: Flask, rows: Rows) -> None:
    with app.app_context():
        from project.services import api_keys  # noqa: PLC0415

        key = api_keys.issue_key(get_runtime(app).database, "report", None).key

    client.get("/results/export.txt", headers={"Authorization": f"Bearer {key}"}, buffered=True)
    get_runtime(app).activity.flush()

    assert entries(rows)[1] == ("report", "downloaded", None, {"format": "txt", "rows": 0})


def test_a_download_succeeds_although_it_cannot_be_recorded_and_is_recorded_later(
    reader: FlaskClient, app: Flask, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    activity = get_runtime(app).activity
    rows.query("alter table audit_log rename to audit_log_gone")
    try:
        status = reader.get("/results/export.csv", buffered=True).status_code
        get_runtime(app).upkeep.run_round()
    finally:
        rows.query("alter table audit_log_gone rename to audit_log")

    get_runtime(app).database.breaker.close()
    activity.flush()

    assert status == 200
    assert [action for _, action, *_ in entries(rows)] == ["downloaded"]


def test_entries_that_wait_for_postgresql_are_bounded(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    activity = Activity(get_runtime(app).database)

    for _ in range(MAX_ENTRIES + 1):
        activity.add(NewEntry(action=Action.DOWNLOADED, actor_kind=ActorKind.USER))

    assert len(activity._entries) == MAX_ENTRIES
    assert "audit entry not recorded" in caplog.text


def test_an_entry_is_written_once_although_its_commit_was_not_confirmed(app: Flask, rows: Rows, client: object) -> None:
    entry = NewEntry.by_user(Action.USER_BLOCKED, None)

    def add_twice(connection: Connection) -> None:
        queries.add_entry(connection, entry)
        queries.add_entry(connection, entry)

    get_runtime(app).database.write_transaction(add_twice)

    assert len(entries(rows)) == 1


def test_upkeep_deletes_entries_older_than_attempts_are_kept(app: Flask, rows: Rows, client: object) -> None:
    database = get_runtime(app).database
    for target in ("old", "new"):
        audit.record_entry(database, NewEntry.by_user(Action.USER_BLOCKED, None, None, target))
    rows.query("update audit_log set at = now() - interval '31 days' where target = 'old'")

    assert audit.prune_batch(database, timedelta(days=30))
    assert not audit.prune_batch(database, timedelta(days=30))

    assert [target for _, _, target, _ in entries(rows)] == ["new"]


def test_the_last_login_and_who_blocked_stand_in_the_list_of_users(
    administrator: FlaskClient, anna: UUID, act: Act, app: Flask, rows: Rows
) -> None:
    get_runtime(app).activity.flush()
    act(f"/admin/users/{anna}/block/")

    page = administrator.get("/admin/users/?lang=en").text
    detail = administrator.get(f"/admin/users/{anna}/?lang=en").text

    assert [row["last_login_at"] is not None for row in rows.of("users", "username")] == [False, True]
    assert "by petrov.ivan," in page
    assert 'href="/results/?period=all&amp;q=%3Da.sokolova"' in page
    assert "User blocked" in detail
    assert 'href="/results/?period=all&amp;q=%3Da.sokolova"' in detail


def test_a_list_comes_back_as_it_was_left(administrator: FlaskClient, anna: UUID) -> None:
    query = f"search=sokolova&role=user&before={UUID(int=2**128 - 1)}"
    address = f"/admin/users/{anna}/block/?{query}"
    kept = query.replace("&", "&amp;")

    listing = administrator.get(f"/admin/users/?{query}").text
    detail = administrator.get(f"/admin/users/{anna}/?{query}").text
    answer = administrator.post(address, data={"csrf_token": csrf_token(administrator.get(address).text)})

    assert f'href="/admin/users/{anna}/?{kept}"' in listing
    assert f'href="/admin/users/?{kept}"' in detail
    assert f'href="/admin/users/{anna}/block/?{kept}"' in detail
    assert answer.headers["Location"] == f"/admin/users/{anna}/?{query}"


def test_a_key_is_shown_with_its_first_characters_only(administrator: FlaskClient, app: Flask, rows: Rows) -> None:
    with app.app_context():
        from project.services import api_keys  # noqa: PLC0415

        key = api_keys.issue_key(get_runtime(app).database, "report", None).key

    page = administrator.get("/admin/api-keys/").text

    assert f"{key[:11]}…" in page
    assert key[:12] not in page
    assert rows.of("api_keys")[0]["prefix"] == key[:11]


def test_commands_and_imports_are_recorded(app: Flask, rows: Rows, client: FlaskClient, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("name,username,email\nAnna,anna,anna@example.org\n")
    runner = app.test_cli_runner()

    runner.invoke(args=["users", "create-admin", "--username", "boss", "--email", "boss@example.org"])
    runner.invoke(
        args=[
            *("users", "import", str(file), "--errors", str(tmp_path / "e.csv")),
            *("--credentials", str(tmp_path / "c.csv")),
        ]
    )
    runner.invoke(args=["users", "block", "anna"])

    assert entries(rows) == [
        (None, "administrator_created", "boss", {}),
        (None, "imported", None, {"name": "people.csv", "created": 1}),
        (None, "user_blocked", "anna", {}),
    ]
    assert {row["actor_kind"] for row in rows.of("audit_log")} == {"command"}


def test_a_login_after_the_restart_of_the_process_keeps_the_later_time(
    reader: FlaskClient, app: Flask, rows: Rows
) -> None:
    activity = get_runtime(app).activity
    rows.query("update users set last_login_at = now() + interval '1 hour'")

    activity.flush()
    log_in(reader, "petrov.ivan", "wrong")

    assert rows.query("select last_login_at > now() as is_later from users") == [{"is_later": True}]
