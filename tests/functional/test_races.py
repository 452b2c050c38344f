"""Concurrent requests: uniqueness is enforced by PostgreSQL (promise P7)."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.builders import ANNA, KEY, useradd
from tests.conftest import Rows

MANY = 20


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Increased, because on a slow machine the last requests would be refused."""
    monkeypatch.setattr("project.database.database.PERMIT_WAIT_S", 10)


def send_concurrently(app: Flask, send: Callable[[FlaskClient, int], int]) -> Counter[int]:
    """Send from `MANY` clients at the same time and count the statuses."""
    start = Barrier(MANY)

    def one(number: int) -> int:
        client = app.test_client()
        start.wait()
        return send(client, number)

    with ThreadPoolExecutor(MANY) as pool:
        return Counter(pool.map(one, range(MANY)))


def test_of_twenty_equal_requests_one_creates_a_user_and_nineteen_conflict(
    app: Flask, client: FlaskClient, rows: Rows
) -> None:
    statuses = send_concurrently(app, lambda client, _: useradd(client, ANNA).status_code)

    assert statuses == {201: 1, 409: MANY - 1}
    assert Counter(row["status"] for row in rows.attempts()) == statuses
    assert len(rows.of("users")) == 1


@pytest.mark.parametrize(
    ("field", "spellings"),
    [
        ("phone", ["8 (912) 345-67-89", "+79123456789", "tel:+7-912-345-67-89", "٨٩١٢٣٤٥٦٧٨٩"]),
        ("email", ["User@Example.com", "user@example.COM", " USER@EXAMPLE.COM ", "user@example.com"]),
        ("username", ["Ivan", "IVAN", "Ｉｖａｎ", "ivan"]),
    ],
)
def test_an_identifier_in_many_spellings_is_given_to_one_of_twenty_requests(
    app: Flask, client: FlaskClient, rows: Rows, field: str, spellings: list[str]
) -> None:
    def send(client: FlaskClient, number: int) -> int:
        body: dict[str, Any] = {"name": "N", "username": f"user{number}", "email": f"user{number}@example.org"}
        return useradd(client, body | {field: spellings[number % len(spellings)]}).status_code

    statuses = send_concurrently(app, send)

    assert statuses == {201: 1, 409: MANY - 1}
    assert {error["field"] for row in rows.attempts() for error in row["errors"]} == {field}
    assert len(rows.of("users")) == 1


def test_users_with_overlapping_identifiers_never_deadlock(app: Flask, client: FlaskClient, rows: Rows) -> None:
    phones, emails = ["+79123456781", "+79123456782"], ["one@example.org", "two@example.org"]

    def send(client: FlaskClient, number: int) -> int:
        body = {
            "name": "N",
            "username": f"user{number}",
            "phone": phones[number % 2],
            "email": emails[number // 2 % 2],
        }
        return useradd(client, body).status_code

    statuses = send_concurrently(app, send)

    assert set(statuses) == {201, 409}
    assert sum(statuses.values()) == len(rows.attempts()) == MANY
    assert statuses[201] == len(rows.of("users"))
    assert len(rows.of("identifiers")) == 3 * statuses[201]


def test_twenty_requests_with_one_key_create_one_user_and_return_one_password(
    app: Flask, client: FlaskClient, rows: Rows
) -> None:
    passwords = set()

    def send(client: FlaskClient, _: int) -> int:
        response = useradd(client, ANNA, headers={"Idempotency-Key": KEY})
        passwords.add(response.get_json()["password"])
        return response.status_code

    statuses = send_concurrently(app, send)

    assert statuses == {201: MANY}
    assert len(passwords) == 1
    assert Counter(row["code"] for row in rows.attempts()) == {"created": 1, "replayed": MANY - 1}
