"""Guarantees of PostgreSQL about users and attempts."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest
from sqlalchemy.pool import PoolProxiedConnection

from project.database import PreparedStatement, QueryError, Row
from project.domain.attempts import NewAttempt, new_id
from project.domain.errors import IdentifiersTakenError
from project.domain.passwords import hash_idempotency_key, new_idempotency_key
from project.domain.registration import NewUser
from project.runtime import Runtime
from project.services import attempts, registration
from tests.conftest import Rows


def new_attempt(key: str) -> NewAttempt:
    """Return an attempt that has just been received."""
    now = datetime.now(UTC)
    return NewAttempt(
        id=new_id(now),
        received_at=now,
        started=time.monotonic(),
        method="POST",
        language="en",
        client_address="",
        user_agent="",
        client_request_id=None,
        key_hash=hash_idempotency_key(key),
    )


def new_user(**changes: Any) -> NewUser:
    """Return a user to create."""
    return NewUser(
        **{"name": "N", "username": "Anna", "phone": None, "email": "a@example.org", "birth_date": None} | changes
    )


def test_an_attempt_that_runs_twice_has_its_first_outcome_and_one_user(runtime: Runtime, rows: Rows) -> None:
    key = new_idempotency_key()
    attempt = new_attempt(key)

    first = registration.register(runtime.database, runtime.passwords, attempt, key, new_user())
    second = registration.register(runtime.database, runtime.passwords, attempt, key, new_user())

    assert second == first
    assert len(rows.of("users")) == len(rows.attempts()) == 1


def test_a_refused_attempt_that_runs_twice_is_refused_with_the_same_errors(runtime: Runtime, rows: Rows) -> None:
    registration.register(
        runtime.database, runtime.passwords, new_attempt(key := new_idempotency_key()), key, new_user()
    )
    attempt = new_attempt(key := new_idempotency_key())

    for _ in range(2):
        with pytest.raises(IdentifiersTakenError) as refusal:
            registration.register(runtime.database, runtime.passwords, attempt, key, new_user())
        assert [error.code for error in refusal.value.errors] == ["username_taken", "email_taken"]

    assert rows.outcomes() == [(201, "created"), (409, "username_taken")]


def test_a_lost_commit_confirmation_still_yields_the_right_credentials(
    runtime: Runtime, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_confirmations(monkeypatch, number=1)
    key = new_idempotency_key()

    credentials = registration.register(runtime.database, runtime.passwords, new_attempt(key), key, new_user())

    [user] = rows.of("users")
    assert runtime.passwords.verify(credentials.password, user["password_hash"])
    assert not credentials.replayed
    assert rows.outcomes() == [(201, "created")]


def test_a_replay_with_a_lost_confirmation_still_yields_the_right_credentials(
    runtime: Runtime, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_idempotency_key()
    first = registration.register(runtime.database, runtime.passwords, new_attempt(key), key, new_user())
    lose_confirmations(monkeypatch, number=2)

    again = registration.register(runtime.database, runtime.passwords, new_attempt(key), key, new_user())

    assert (again.replayed, again.password, again.user) == (True, first.password, first.user)
    assert rows.outcomes() == [(201, "created"), (200, "replayed")]


def lose_confirmations(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Break the connection of the first `number` statements after their commit."""
    lost: list[bool] = []
    real_run = PreparedStatement.run

    def run(statement: PreparedStatement, connection: PoolProxiedConnection, values: Sequence[object]) -> list[Row]:
        found = real_run(statement, connection, values)
        if len(lost) < number:
            lost.append(True)
            raise psycopg2.OperationalError("connection lost")
        return found

    monkeypatch.setattr(PreparedStatement, "run", run)


def test_a_user_cannot_exist_without_an_attempt_that_created_it(rows: Rows, runtime: Runtime) -> None:
    attempt = new_attempt(new_idempotency_key())
    attempts.record_attempt(runtime.database, runtime.spool, attempt, status=503, code="database_unavailable")

    with pytest.raises(QueryError, match="users_id_attempt_status_fkey"):
        rows.query(
            "insert into users (id, name, username, email, password_hash, created_at)"
            " values (:id, 'N', 'n', 'n@example.org', 'x', now())",
            id=attempt.id,
        )


def test_a_user_without_a_contact_cannot_exist(rows: Rows, runtime: Runtime) -> None:
    key = new_idempotency_key()

    with pytest.raises(QueryError, match="users_contact_check"):
        registration.register(runtime.database, runtime.passwords, new_attempt(key), key, new_user(email=None))

    assert rows.attempts() == []


def test_recording_an_attempt_again_changes_only_its_answered_status(runtime: Runtime, rows: Rows) -> None:
    key = new_idempotency_key()
    attempt = new_attempt(key)
    registration.register(runtime.database, runtime.passwords, attempt, key, new_user())

    attempts.record_attempt(runtime.database, runtime.spool, attempt, status=500, code="internal_error")

    [row] = rows.attempts()
    assert (row["status"], row["code"], row["answered"]) == (201, "created", 500)


def test_issued_passwords_are_stored_with_argon2id_if_configured(runtime: Runtime, rows: Rows) -> None:
    passwords = replace(runtime.passwords, scheme="argon2id")
    key = new_idempotency_key()

    credentials = registration.register(runtime.database, passwords, new_attempt(key), key, new_user())

    [user] = rows.of("users")
    assert user["password_hash"].startswith("argon2id$")
    assert runtime.passwords.verify(credentials.password, user["password_hash"])
