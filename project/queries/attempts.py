"""Queries of attempts as rows."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CTE,
    BindParameter,
    ColumnElement,
    Connection,
    Row,
    Select,
    SQLColumnExpression,
    func,
    select,
    true,
    tuple_,
)

from project.domain.attempts import AttemptDetail, AttemptFilter, AttemptRow
from project.domain.errors import FieldError
from project.models import Attempt
from project.queries.filters import conditions, kinds, limit_search, within

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
    """Return an attempt with all columns."""
    row = connection.execute(select(*_DETAIL).where(Attempt.id == attempt_id)).one_or_none()
    return None if row is None else AttemptDetail(**_fields(row))


def find_attempts(
    connection: Connection,
    attempt_filter: AttemptFilter,
    limit: int,
    *,
    before: UUID | None = None,
    after: UUID | None = None,
) -> list[AttemptRow]:
    """Return up to `limit` attempts, newest first: the next older than `before`, or the next newer than `after`."""
    limit_search(connection, attempt_filter)
    if after is not None:
        return _rows(connection.execute(select_first(_ROW, attempt_filter, limit, Attempt.id > after)).all()[::-1])
    bounds = [] if before is None else [Attempt.id < before]
    return _rows(connection.execute(select_first(_ROW, attempt_filter, limit, *bounds, newest_first=True)).all())


def find_first_received_at(connection: Connection, attempt_filter: AttemptFilter) -> datetime | None:
    """Return the time of the oldest selected attempt."""
    limit_search(connection, attempt_filter)
    first = connection.execute(select_first((Attempt.id, Attempt.received_at), attempt_filter, 1)).one_or_none()
    return None if first is None else first.received_at


def count_up_to(connection: Connection, attempt_filter: AttemptFilter, limit: int) -> int:
    """Return the number of selected attempts, at most `limit`."""
    limit_search(connection, attempt_filter)
    found = select_first((Attempt.id,), attempt_filter, limit, newest_first=True).subquery()
    return connection.execute(select(func.count()).select_from(found)).scalar_one()


def select_first(
    columns: Sequence[SQLColumnExpression[Any]],
    attempt_filter: AttemptFilter,
    limit: int | BindParameter[int],
    *bounds: ColumnElement[bool],
    newest_first: bool = False,
) -> Select[Any]:
    """Select the oldest or newest attempts of a filter within more bounds.

    With a filter by outcome, code or status, the first rows of each existing kind (status and code) are read in index
    order and merged: PostgreSQL reads no attempts of other kinds, however many lie in between.
    """
    order = Attempt.id.desc() if newest_first else Attempt.id
    query = select(*columns).where(*bounds).order_by(order).limit(limit)
    if not attempt_filter.selects_by_kind:
        return query.where(*conditions(attempt_filter))
    kind = _existing_kinds()
    inside = (Attempt.status == kind.c.status, Attempt.code == kind.c.code, *within(attempt_filter))
    first = query.where(*inside).lateral("first")
    merged = (
        select(*first.c).select_from(kind).join(first, true()).where(*kinds(attempt_filter, kind.c.status, kind.c.code))
    )
    return merged.order_by(first.c.id.desc() if newest_first else first.c.id).limit(limit)


def _existing_kinds() -> CTE:
    """Return all existing pairs of status and code by a loose index scan."""
    pairs = select(Attempt.status, Attempt.code).order_by(Attempt.status.desc(), Attempt.code.desc()).limit(1)
    kind = pairs.cte("kind", recursive=True)
    before = tuple_(Attempt.status, Attempt.code) < tuple_(kind.c.status, kind.c.code)
    following = pairs.where(before).correlate(kind).lateral("following")
    return kind.union_all(select(*following.c).select_from(kind).join(following, true()))


def _rows(rows: Sequence[Row[Any]]) -> list[AttemptRow]:
    return [AttemptRow(**_fields(row)) for row in rows]


def _fields(row: Row[Any]) -> dict[str, Any]:
    fields = dict(row._mapping)
    fields["errors"] = tuple(FieldError.from_json(error) for error in fields["errors"])
    return fields
