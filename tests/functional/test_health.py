"""What a balancer asks every second."""

from typing import Any, NoReturn

import pytest
from flask.testing import FlaskClient

from project.outage import Database

ADDRESSES = ["/livez", "/readyz"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_stranger_is_told_that_all_is_well(client: FlaskClient, address: str) -> None:
    response = client.get(address)

    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("address", ADDRESSES)
def test_the_answer_needs_no_database_and_begins_no_session(
    client: FlaskClient, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a health check asked the database")

    monkeypatch.setattr(Database, "transact", refuse)
    monkeypatch.setattr(Database, "read", refuse)

    response = client.get(address)

    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("address", ADDRESSES)
def test_head_is_enough_and_nothing_else_is_taken(client: FlaskClient, address: str) -> None:
    statuses = [client.open(address, method=method).status_code for method in ("HEAD", "POST", "DELETE")]

    assert statuses == [200, 405, 405]
