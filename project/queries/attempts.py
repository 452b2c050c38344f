"""Queries that return single attempts or pages of attempts."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
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
    or_,
    select,
    true,
    tuple_,
)

from project.domain.attempts import AttemptDetail, AttemptFilter, AttemptRow, lowest_id
from project.domain.errors import FieldError
from project.domain.search import spelling_regex
from project.models import Attempt
from project.queries.filters import (
    SEARCH_TIMEOUT_S,
    filter_conditions,
    limit_search_time,
    login_condition,
    outcome_conditions,
    period_conditions,
    set_timeout,
)

RELATED_TIMEOUT_S = 0.1
"""Time limit in seconds of each query for attempts with the same contact. Contacts are not indexed, because too many
contacts have the same mask."""
Position = Literal["earlier", "later", "created"]
"""Position of a related attempt: the last attempt before a given one, the first after it, or the first after it that
created a user."""


class Related(NamedTuple):
    """An attempt before and one after a given attempt, by the same person; None if not found."""

    earlier: AttemptRow | None
    """The last matching attempt before the given one."""
    later: AttemptRow | None
    """The first matching attempt after the given one that created a user; if none did, the first matching one."""
    is_complete: bool = True
    """Whether all attempts were searched before the time limit, so that None means that there is none."""


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
    """Return an attempt with all its data; None if it does not exist."""
    row = connection.execute(select(*_DETAIL).where(Attempt.id == attempt_id)).one_or_none()
    return None if row is None else AttemptDetail(**_fields(row))


def find_attempts(
    connection: Connection,
    attempt_filter: AttemptFilter,
    limit: int,
    *,
    before: UUID | None = None,
    after: UUID | None = None,
    timeout_s: float = SEARCH_TIMEOUT_S,
) -> list[AttemptRow]:
    """Return up to `limit` selected attempts older than `before` or newer than `after`.

    Returns the ones nearest to that attempt, by default the newest ones, in the order newest first. `timeout_s` is the
    time limit of a text search.
    """
    limit_search_time(connection, attempt_filter, timeout_s)
    if after is None:
        bounds = [] if before is None else [Attempt.id < before]
        query = select_first(_ROW, attempt_filter, limit, *bounds, newest_first=True)
    else:
        query = select_first(_ROW, attempt_filter, limit, Attempt.id > after)
    rows = [AttemptRow(**_fields(row)) for row in connection.execute(query)]
    return rows if after is None else rows[::-1]


def find_same_login(connection: Connection, attempt: AttemptRow, position: Position) -> AttemptRow | None:
    """Return the attempt at `position` with the same login, ignoring case, or None."""
    if not attempt.username:
        return None
    return _find_related(connection, attempt, position, login_condition(attempt.username))


def find_same_contact(
    connection: Connection, attempt: AttemptRow, position: Position, max_distance: timedelta
) -> AttemptRow | None:
    """Return the attempt at `position` that has the same name and contact, or None.

    Only attempts within `max_distance` before or after `attempt` are found. Contacts are compared by their masks. Many
    contacts have the same mask, so names are compared, too. PostgreSQL cancels the query after RELATED_TIMEOUT_S.
    """
    contacts = ((Attempt.phone_masked, attempt.phone_masked), (Attempt.email_masked, attempt.email_masked))
    in_common = [column == contact for column, contact in contacts if contact]
    if not (attempt.name and in_common):
        return None
    set_timeout(connection, RELATED_TIMEOUT_S)
    since, until = (lowest_id(attempt.received_at + distance) for distance in (-max_distance, max_distance))
    name = Attempt.sent["name"].astext.regexp_match(f"^{spelling_regex(attempt.name)}$")
    return _find_related(connection, attempt, position, Attempt.id.between(since, until), or_(*in_common), name)


def _find_related(
    connection: Connection, attempt: AttemptRow, position: Position, *wanted: ColumnElement[bool]
) -> AttemptRow | None:
    query = select(*_ROW).where(*wanted).limit(1)
    if position == "earlier":
        query = query.where(Attempt.id < attempt.id).order_by(Attempt.id.desc())
    else:
        query = query.where(Attempt.id > attempt.id).order_by(Attempt.id)
    if position == "created":
        query = query.where(Attempt.status == 201)
    row = connection.execute(query).one_or_none()
    return None if row is None else AttemptRow(**_fields(row))


def find_first_received_at(connection: Connection, attempt_filter: AttemptFilter) -> datetime | None:
    """Return the time of arrival of the oldest selected attempt, or None if there is none."""
    limit_search_time(connection, attempt_filter)
    return connection.execute(select_first((Attempt.received_at, Attempt.id), attempt_filter, 1)).scalar()


def count_up_to(connection: Connection, attempt_filter: AttemptFilter, limit: int) -> int:
    """Return the number of selected attempts, at most `limit`."""
    limit_search_time(connection, attempt_filter)
    found = select_first((Attempt.id,), attempt_filter, limit, newest_first=True).subquery()
    return connection.execute(select(func.count()).select_from(found)).scalar_one()


def select_first(
    columns: Sequence[SQLColumnExpression[Any]],
    attempt_filter: AttemptFilter,
    limit: int | BindParameter[int],
    *bounds: ColumnElement[bool],
    newest_first: bool = False,
) -> Select[Any]:
    """Return a query for the oldest or newest selected attempts within `bounds`.

    With a filter by outcome, code or status, the first rows of each selected kind (pair of status and code) are read in
    index order and merged, so that PostgreSQL reads no attempts of other kinds.
    """
    order = Attempt.id.desc() if newest_first else Attempt.id
    query = select(*columns).where(*bounds).order_by(order).limit(limit)
    if not attempt_filter.selects_by_kind:
        return query.where(*filter_conditions(attempt_filter))
    kind = _existing_kinds()
    in_kind = (Attempt.status == kind.c.status, Attempt.code == kind.c.code, *period_conditions(attempt_filter))
    first = query.where(*in_kind).lateral("first")
    wanted = outcome_conditions(attempt_filter, kind.c.status, kind.c.code)
    merged = select(*first.c).select_from(kind).join(first, true()).where(*wanted)
    return merged.order_by(first.c.id.desc() if newest_first else first.c.id).limit(limit)


def _existing_kinds() -> CTE:
    """Return a CTE with all existing pairs of status and code, read by a loose index scan."""
    pairs = select(Attempt.status, Attempt.code).order_by(Attempt.status.desc(), Attempt.code.desc()).limit(1)
    kind = pairs.cte("kind", recursive=True)
    before = tuple_(Attempt.status, Attempt.code) < tuple_(kind.c.status, kind.c.code)
    following = pairs.where(before).correlate(kind).lateral("following")
    return kind.union_all(select(*following.c).select_from(kind).join(following, true()))


def _fields(row: Row[Any]) -> dict[str, Any]:
    return {**row._mapping, "errors": tuple(map(FieldError.from_json, row.errors))}
