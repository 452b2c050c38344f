"""Creates attempts of any time and outcome and stores them like the service."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

from flask import Flask

from project.domain.attempts import NewAttempt, new_id
from project.domain.errors import FieldError
from project.domain.records import AttemptRecord
from project.queries.registration import insert_attempts
from project.runtime import Runtime

INVALID_PHONE = FieldError("phone", "invalid_phone", "too_short")


def ago(**parts: float) -> datetime:
    """Return a past time."""
    return datetime.now(UTC) - timedelta(**parts)


def record(
    received_at: datetime,
    *,
    status: int = 201,
    code: str = "created",
    errors: tuple[FieldError, ...] = (),
    duration_ms: int = 12,
    username: str | None = "somebody",
    name: str | None = "Кто-то",
    phone: str | None = None,
    email: str | None = None,
    **changes: Any,
) -> AttemptRecord:
    """Return an attempt and its outcome."""
    sent = {"name": name, "username": username, "phone": phone, "email": email}
    head: dict[str, Any] = {
        "id": new_id(received_at),
        "received_at": received_at,
        "started": time.monotonic(),
        "method": "POST",
        "language": "ru",
        "client_address": "10.20.3.14",
        "user_agent": "python-requests/2.34.0",
        "client_request_id": None,
    }
    attempt = NewAttempt(**head | {"sent": {field: value for field, value in sent.items() if value}} | changes)
    return AttemptRecord(
        attempt=attempt, status=status, answered=status, code=code, errors=errors, duration_ms=duration_ms
    )


def keep(app: Flask, received_at: datetime, **outcome: Any) -> UUID:
    """Store an attempt made by record(); return its id."""
    new = record(received_at, **outcome)
    keep_all(app, [new])
    return new.attempt.id


def keep_all(app: Flask, records: Sequence[AttemptRecord]) -> None:
    """Store attempts in the given order."""
    with app.app_context():
        cast(Runtime, app.extensions["useradd"]).database.write_transaction(insert_attempts, records)
