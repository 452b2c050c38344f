"""Items of docs/security.md that concern several blueprints."""

from datetime import date, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from project.runtime import get_runtime
from tests.builders import ANNA, IVAN, KEY, log_in, useradd
from tests.conftest import Rows

TABLES = ("users", "identifiers", "idempotency_keys", "attempts", "attempt_counts", "api_keys")


def test_secrets_are_stored_nowhere(
    app: Flask, client: FlaskClient, rows: Rows, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S33: no table, log, spool or file contains an issued, typed or repeated password."""
    caplog.set_level("DEBUG")
    headers = {"Idempotency-Key": KEY}
    issued = useradd(client, ANNA, headers=headers).json
    assert issued is not None
    useradd(client, ANNA, headers=headers)
    useradd(client, {**IVAN, "password": "typed-in-a-wrong-field"}, headers=headers)
    key = app.test_cli_runner().invoke(args=["api-keys", "create", "crm"]).output.split()[-1]
    client.get("/api/v1/stats/", headers={"Authorization": f"Bearer {key}"})
    log_in(client, issued["login"], "typed-by-mistake")
    log_in(client, issued["login"], issued["password"])
    spooled = get_runtime(app).spool
    monkeypatch.setattr("project.services.attempts._try_insert", lambda *_: False)
    monkeypatch.setattr(type(get_runtime(app).upkeep), "run_round", lambda *_: None)  # nothing drains the spool
    useradd(client, {"name": "N", "password": "typed-in-a-wrong-field"}, headers=headers)

    outputs = {table: str(rows.of(table)) for table in TABLES}
    outputs |= {f"spool {path.name}": path.read_text() for path in spooled.root.rglob("*") if path.is_file()}
    for ending in ("txt", "csv"):
        with client.get(f"/results/export.{ending}") as response:
            outputs[ending] = response.get_data(as_text=True)
    outputs["log"] = caplog.text

    secrets = [
        issued["password"],
        issued["password"].replace("-", ""),
        KEY,
        key,
        "typed-in-a-wrong-field",
        "typed-by-mistake",
    ]
    assert [(output, secret) for output, text in outputs.items() for secret in secrets if secret in text] == []
    assert '"password"' in "".join(text for output, text in outputs.items() if output.startswith("spool")), (
        "the field was recorded"
    )


def test_an_email_with_a_full_width_letter_is_a_conflict(client: FlaskClient) -> None:
    """S20."""
    useradd(client, {**IVAN, "email": "a@example.com"})

    answer = useradd(client, {**ANNA, "email": "ａ@example.com"})

    assert answer.status_code == 409
    assert [error["field"] for error in answer.json["errors"]] == ["email"]  # type: ignore[index]


@pytest.mark.parametrize("phone", ["+79123456789;ext=12", "+7 912 345-67-89 ext. 5", "8 912 345 67 89 доб. 5"])
def test_a_phone_number_with_an_extension_is_refused(client: FlaskClient, phone: str) -> None:
    """S24: with extensions, one number could be registered repeatedly."""
    answer = useradd(client, {**ANNA, "phone": phone})

    assert (answer.status_code, answer.json["errors"][0]["code"]) == (422, "invalid_phone")  # type: ignore[index]


def test_a_birth_date_in_the_future_is_refused(client: FlaskClient) -> None:
    """S27, in any time zone."""
    answer = useradd(client, {**ANNA, "birth_date": str(date.today() + timedelta(days=2))})  # noqa: DTZ011 - any zone

    assert (answer.status_code, answer.json["errors"][0]["code"]) == (422, "date_out_of_range")  # type: ignore[index]
