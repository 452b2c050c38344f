"""Attempts as rows: a page of them, one of them, all of them."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select

from project.domain.attempts import AttemptDetail, AttemptFilter, AttemptRow
from project.domain.errors import FieldError
from project.models import Attempt
from project.outage import Database
from project.queries.filters import conditions

BATCH = 5000
"""Rows fetched at once by a stream: enough to make round trips cheap, little enough to keep memory flat."""

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


def iter_attempts(database: Database, chosen: AttemptFilter) -> Iterator[AttemptRow]:
    """Yield the chosen attempts, oldest first.

    A batch at a time, each a short transaction of its own: a slow reader holds no connection, memory stays flat.
    The picture is one only if `chosen.newest` closes it.
    """
    last: UUID | None = None
    while batch := database.read(_next_batch, chosen, last):
        yield from batch
        last = batch[-1].id


def _next_batch(connection: Connection, chosen: AttemptFilter, last: UUID | None) -> list[AttemptRow]:
    query = select(*_ROW).where(*conditions(chosen)).order_by(Attempt.id).limit(BATCH)
    if last is not None:
        query = query.where(Attempt.id > last)
    return _rows(connection.execute(query).all())


def _rows(rows: Sequence[Row[Any]]) -> list[AttemptRow]:
    return [AttemptRow(**_fields(row)) for row in rows]


def _fields(row: Row[Any]) -> dict[str, Any]:
    fields = dict(row._mapping)
    fields["errors"] = tuple(FieldError.from_json(error) for error in fields["errors"])
    return fields
