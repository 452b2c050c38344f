"""Attempts as rows: a page of them, one of them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select

from project.domain.attempts import AttemptDetail, AttemptFilter, AttemptRow
from project.domain.errors import FieldError
from project.models import Attempt
from project.queries.filters import conditions

_ROW = (
    Attempt.id,
    Attempt.received_at,
    Attempt.status,
    Attempt.answered,
    Attempt.code,
    Attempt.via,
    Attempt.method,
    Attempt.duration_ms,
    Attempt.username,
    Attempt.sent["name"].astext.label("name"),
    Attempt.phone_masked,
    Attempt.email_masked,
    Attempt.errors,
)
_DETAIL = (
    *_ROW,
    Attempt.recorded_at,
    Attempt.sent,
    Attempt.language,
    Attempt.client_address,
    Attempt.user_agent,
    Attempt.client_request_id,
    Attempt.key_hash,
)


def find_attempt(connection: Connection, attempt_id: UUID) -> AttemptDetail | None:
    """Return all that is kept of one attempt."""
    row = connection.execute(select(*_DETAIL).where(Attempt.id == attempt_id)).one_or_none()
    return None if row is None else AttemptDetail(**_fields(row))


def find_attempts(
    connection: Connection,
    chosen: AttemptFilter,
    limit: int,
    *,
    before: UUID | None = None,
    after: UUID | None = None,
) -> list[AttemptRow]:
    """Return at most `limit` attempts, newest first: those just older than `before` or just newer than `after`."""
    query = select(*_ROW).where(*conditions(chosen)).limit(limit)
    if after is not None:
        rows = connection.execute(query.where(Attempt.id > after).order_by(Attempt.id)).all()[::-1]
    else:
        if before is not None:
            query = query.where(Attempt.id < before)
        rows = connection.execute(query.order_by(Attempt.id.desc())).all()
    return _rows(rows)


def _rows(rows: Sequence[Row[Any]]) -> list[AttemptRow]:
    return [AttemptRow(**_fields(row)) for row in rows]


def _fields(row: Row[Any]) -> dict[str, Any]:
    fields = dict(row._mapping)
    fields["errors"] = tuple(FieldError.from_json(error) for error in fields["errors"])
    return fields
