"""Stored contacts are masked again by the current rules while the service runs."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask
from sqlalchemy import Connection, text

from project.queries.masks import FINISHED, mask_next_attempts, set_watermark
from project.runtime import Runtime
from project.services import attempts, upkeep
from project.services.upkeep import Upkeep
from tests.conftest import Rows
from tests.functional.attempts import ago, keep

OLD_PHONE, PHONE = "+79• ••••• 01", "+••• ••••• 01"
COLUMNS = "phone_masked, email_masked, sent, user_agent, client_request_id, method, username, status, code, answered"


@pytest.fixture(autouse=True)
def watermark(runtime: Runtime) -> None:
    """The watermark as the migration sets it."""
    runtime.database.write_transaction(set_watermark, 0)


def keep_old(app: Flask, **values: object) -> None:
    """Store an attempt as the previous version masked it."""
    keep(
        app,
        ago(),
        status=422,
        code="invalid_phone",
        phone=OLD_PHONE,
        email="x@example.org, +7 912 555-01-41",
        username="anna.1234567",
        user_agent="bot (anna@example.org)",
        client_request_id="+79125550141",
        **values,
    )


def test_old_masks_are_replaced_and_nothing_else(app: Flask, runtime: Runtime, rows: Rows) -> None:
    keep_old(app)
    keep(app, ago(), phone="8 (912) •••-••-41", email="a•••@example.org")
    before = rows.query(f"select {COLUMNS}, xmin::text from attempts order by seq")  # noqa: S608 - constant

    assert attempts.mask_batch(runtime.database, "RU") == 2

    first, second = rows.query(f"select {COLUMNS}, xmin::text from attempts order by seq")  # noqa: S608 - constant
    assert second == before[1], "rows with current masks are not written"
    email = "•••@example.org, +• ••• •••-••-41"
    assert first.pop("xmin") != before[0].pop("xmin")
    assert first == before[0] | {
        "phone_masked": PHONE,
        "email_masked": email,
        "sent": before[0]["sent"] | {"phone": PHONE, "email": email},
        "user_agent": "bot (a•••@example.org)",
        "client_request_id": "+7912•••••41",
    }


def test_an_interrupted_run_continues_after_the_last_batch(
    app: Flask, runtime: Runtime, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        keep_old(app)
    monkeypatch.setattr(attempts, "MASK_BATCH", 2)

    def fail(connection: Connection) -> None:
        mask_next_attempts(connection, "RU", 2)
        raise ZeroDivisionError

    assert attempts.mask_batch(runtime.database, "RU") == 2
    with pytest.raises(ZeroDivisionError):
        runtime.database.write_transaction(fail)
    assert _old(rows) == 3
    assert [attempts.mask_batch(runtime.database, "RU") for _ in range(3)] == [2, 1, 0]
    assert _old(rows) == 0
    assert sum(attempts.mask_all(runtime.database, "RU")) == 5, "once more, from the first attempt"


def test_upkeep_masks_and_goes_on_until_the_previous_version_cannot_run_any_more(
    app: Flask, runtime: Runtime, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_old(app)
    monkeypatch.setattr(upkeep, "MASK_EVERY_S", 0)
    thread = Upkeep(runtime.database, runtime.read_database, runtime.spool, keep_days=0, phone_region="RU")

    thread.run_round()
    thread.run_round()
    keep_old(app)  # by an instance of the previous version
    thread.run_round()
    thread.run_round()

    assert _old(rows) == 0
    assert rows.query("select seq from watermarks where name = 'masks'")[0]["seq"] < FINISHED

    thread._mask_until = 0
    thread.run_round()
    keep_old(app)
    thread.run_round()

    assert rows.query("select seq from watermarks where name = 'masks'")[0]["seq"] == FINISHED
    assert _old(rows) == 1


def test_two_processes_do_not_mask_the_same_batch(app: Flask, runtime: Runtime) -> None:
    keep_old(app)

    def while_locked(connection: Connection) -> int:
        connection.execute(text("select from watermarks where name = 'masks' for update"))
        with ThreadPoolExecutor() as executor:
            return executor.submit(attempts.mask_batch, runtime.database, "RU").result()

    assert runtime.database.write_transaction(while_locked) == 0
    assert attempts.mask_batch(runtime.database, "RU") == 1


def test_the_command_masks_everything(app: Flask, runtime: Runtime, rows: Rows) -> None:
    keep_old(app)
    runtime.database.write_transaction(set_watermark, FINISHED)

    result = app.test_cli_runner().invoke(args=["attempts", "mask"])

    assert (result.exit_code, result.output) == (0, "Attempts checked: 1\n")
    assert _old(rows) == 0


def _old(rows: Rows) -> int:
    return len(rows.query("select from attempts where phone_masked = :old", old=OLD_PHONE))
