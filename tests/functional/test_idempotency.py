"""A repeated request with its key gets the same response and creates no second user."""

import pytest
from flask.testing import FlaskClient

from tests.builders import ANNA, IVAN, KEY, useradd
from tests.conftest import Rows

HEADERS = {"Idempotency-Key": KEY}


def test_a_repeat_gets_the_same_credentials_and_creates_nobody(client: FlaskClient, rows: Rows) -> None:
    first = useradd(client, ANNA, headers=HEADERS)
    again = useradd(client, ANNA, headers=HEADERS)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json is not None
    assert again.json is not None
    assert (again.json["login"], again.json["password"]) == (first.json["login"], first.json["password"])
    assert again.json["user"] == first.json["user"]
    assert ("Idempotent-Replayed" in first.headers, again.headers["Idempotent-Replayed"]) == (False, "true")
    assert len(rows.of("users")) == 1
    assert rows.outcomes() == [(201, "created"), (200, "replayed")]
    assert rows.attempts()[1]["answered"] == 201


def test_an_equivalent_body_in_another_spelling_is_a_repeat(client: FlaskClient) -> None:
    useradd(client, ANNA, headers=HEADERS)

    again = useradd(client, {**ANNA, "phone": "+79125550141"}, headers={"Idempotency-Key": f'"{KEY}"'})

    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_key_generated_by_the_service_can_be_used_for_a_repeat(client: FlaskClient) -> None:
    first = useradd(client, ANNA).json
    assert first is not None

    again = useradd(client, ANNA, headers={"Idempotency-Key": first["idempotency_key"]}).json

    assert again is not None
    assert again["password"] == first["password"]


def test_a_key_with_another_body_is_refused_without_revealing_the_password(client: FlaskClient, rows: Rows) -> None:
    useradd(client, ANNA, headers=HEADERS)

    response = useradd(client, IVAN, headers=HEADERS)

    assert (response.status_code, response.json["code"]) == (422, "idempotency_key_reused")  # type: ignore[index]
    assert "password" not in response.json  # type: ignore[operator]
    assert rows.outcomes() == [(201, "created"), (422, "idempotency_key_reused")]


def test_a_repeat_after_a_password_change_does_not_reveal_a_password(client: FlaskClient, rows: Rows) -> None:
    useradd(client, ANNA, headers=HEADERS)
    rows.query("update users set password_changed_at = now()")

    response = useradd(client, ANNA, headers=HEADERS)

    assert (response.status_code, response.json["code"]) == (409, "credentials_changed")  # type: ignore[index]


def test_only_successful_requests_are_replayed(client: FlaskClient) -> None:
    useradd(client, IVAN)
    useradd(client, {**ANNA, "username": IVAN["username"]}, headers=HEADERS)

    response = useradd(client, ANNA, headers=HEADERS)

    assert response.status_code == 201
    assert "Idempotent-Replayed" not in response.headers


def test_an_expired_key_can_be_used_again(client: FlaskClient, rows: Rows) -> None:
    useradd(client, ANNA, headers=HEADERS)
    rows.query("update idempotency_keys set expires_at = now()")

    response = useradd(client, IVAN, headers=HEADERS)

    assert response.status_code == 201


@pytest.mark.parametrize("key", ["V1StGXR8_Z5jdHi6B-myT", "x" * 255, f'"{"x" * 21}"', f'"{"x" * 255}"', f" {KEY} "])
def test_a_key_of_21_to_255_visible_characters_is_accepted_quoted_or_bare(client: FlaskClient, key: str) -> None:
    response = useradd(client, ANNA, headers={"Idempotency-Key": key})

    assert response.status_code == 201
    assert response.json["idempotency_key"] == key.strip().strip('"')  # type: ignore[index]


@pytest.mark.parametrize(
    "key",
    [
        *("1", "x" * 20, "x" * 256, "spaces are not visible here", "é" * 30, ""),
        *(f'"{"x" * 20}"', f'"{"x" * 256}"', f'"{"x" * 30}', f'{"x" * 30}"', f'""{"x" * 30}""'),
    ],
)
def test_an_invalid_key_is_refused_and_recorded(client: FlaskClient, rows: Rows, key: str) -> None:
    response = useradd(client, ANNA, headers={"Idempotency-Key": key})

    assert (response.status_code, response.json["code"]) == (400, "bad_idempotency_key")  # type: ignore[index]
    assert rows.outcomes() == [(400, "bad_idempotency_key")]
