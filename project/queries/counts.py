"""Attempts as numbers."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    DateTime,
    Integer,
    Select,
    SQLColumnExpression,
    Text,
    func,
    literal,
    literal_column,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from project.domain.attempts import AttemptFilter, first_id
from project.domain.grains import EARLIEST, LATEST, Span, cover
from project.domain.reports import Counts, Kind
from project.models import Attempt, AttemptCount, AttemptDuration
from project.queries.filters import conditions, kinds, limit_search, within
from project.queries.rollups import ROUNDED_MS, counted_to

_MS: ColumnElement[int] = literal_column(ROUNDED_MS, Integer).label("ms")
_MOMENTS = ARRAY(DateTime(timezone=True))


def count(connection: Connection, chosen: AttemptFilter, edges: Sequence[datetime] = ()) -> Counts:
    """Return how many attempts of each kind were received between two neighbouring edges, and how long they took."""
    if chosen.text:
        return _count_matches(connection, chosen, edges)
    found = _add_up(connection, chosen, AttemptDuration, (AttemptDuration.ms,), (_MS,))
    durations = Counter({ms: int(number) for _, ms, number in found})
    return Counts(count_kinds(connection, chosen, edges).kinds, durations)


def count_kinds(connection: Connection, chosen: AttemptFilter, edges: Sequence[datetime] = ()) -> Counts:
    """Return how many attempts of each kind were received between two neighbouring edges, not how long they took."""
    if chosen.text:
        return _count_matches(connection, chosen, edges)
    columns = (Attempt.status, Attempt.code)
    found = _add_up(connection, chosen, AttemptCount, (AttemptCount.status, AttemptCount.code), columns, edges)
    return Counts(Counter({Kind(place, status, code): int(number) for place, status, code, number in found}))


def find_newest(connection: Connection) -> int:
    """Return the sequence number of the last recorded attempt, 0 when there is none: it closes a picture."""
    return connection.execute(select(func.coalesce(func.max(Attempt.seq), 0))).scalar_one()


def _count_matches(connection: Connection, chosen: AttemptFilter, edges: Sequence[datetime]) -> Counts:
    """Count the attempts themselves, all in one go: a text cannot be looked up in counts."""
    limit_search(connection, chosen)
    columns = (Attempt.status, Attempt.code, _MS)
    rows = select(_place(edges), *columns).where(*conditions(chosen)).subquery()
    query: Select[Any] = select(*rows.c, func.count()).group_by(*rows.c)
    found = Counts()
    for place, status, code, ms, number in connection.execute(query):
        found.kinds[Kind(place, status, code)] += number
        found.durations[ms] += number
    return found


def _add_up(
    connection: Connection,
    chosen: AttemptFilter,
    counted: type[AttemptCount | AttemptDuration],
    counted_columns: Sequence[SQLColumnExpression[Any]],
    columns: Sequence[SQLColumnExpression[Any]],
    edges: Sequence[datetime] = (),
) -> Iterator[Any]:
    """Yield places, columns and numbers: what is counted beforehand, and by `columns` the attempts that are not."""
    mark = counted_to(connection)
    spans = list(_spans(chosen, edges))
    parts = [_counted([(place, span) for place, span in spans if span.grain], chosen, counted, counted_columns)]
    wanted = kinds(chosen, Attempt.status, Attempt.code)
    for place, span in spans:
        if span.grain is None:
            inside = (Attempt.id >= first_id(span.since), Attempt.id < first_id(span.until), Attempt.seq <= mark)
            parts.append(_rows(literal(place), columns, 1, *inside, *wanted))
    newest = chosen.newest
    if newest is None or newest > mark:
        parts.append(_rows(_place(edges), columns, 1, Attempt.seq > mark, *within(chosen), *wanted))
    elif newest < mark:  # counted since the picture was closed
        late = (Attempt.seq > newest, Attempt.seq <= mark, *within(replace(chosen, newest=None)))
        parts.append(_rows(_place(edges), columns, -1, *late, *wanted))
    found = union_all(*parts).subquery()
    number, names = func.sum(found.c.number), [column for column in found.c if column.name != "number"]
    yield from connection.execute(select(*names, number).group_by(*names).having(number > 0))


def _spans(chosen: AttemptFilter, edges: Sequence[datetime]) -> Iterator[tuple[int, Span]]:
    """Yield the spans of the period with the place among the edges where they lie, as _place() numbers them."""
    for place, (since, until) in enumerate(pairwise((EARLIEST, *edges, LATEST))):
        for span in cover(max(since, chosen.since or since), min(until, chosen.until or until)):
            yield place, span


def _place(edges: Sequence[datetime]) -> ColumnElement[int]:
    moments = literal(list(edges), _MOMENTS)
    return (func.width_bucket(Attempt.received_at, moments) if edges else literal(0)).label("place")


def _counted(
    spans: Sequence[tuple[int, Span]],
    chosen: AttemptFilter,
    counted: type[AttemptCount | AttemptDuration],
    columns: Sequence[SQLColumnExpression[Any]],
) -> Select[Any]:
    """Return the counts of whole grains. LATERAL, because joined otherwise PostgreSQL would read all of the table."""
    lists = (
        literal([place for place, _ in spans], ARRAY(Integer)),
        literal([span.grain for _, span in spans], ARRAY(Text)),
        literal([span.since for _, span in spans], _MOMENTS),
        literal([span.until for _, span in spans], _MOMENTS),
    )
    span = func.unnest(*lists).table_valued("place", "grain", "since", "until", name="span").render_derived()
    inside = (counted.grain == span.c.grain, counted.at >= span.c.since, counted.at < span.c.until)
    sums = select(*columns, func.sum(counted.number).label("number")).where(*inside)
    sums = sums.where(*kinds(chosen, counted.status, counted.code)).group_by(*columns)
    found = sums.lateral("sums")
    return select(span.c.place, *found.c).select_from(span).join(found, true())


def _rows(
    place: ColumnElement[int], columns: Sequence[SQLColumnExpression[Any]], number: int, *wanted: ColumnElement[bool]
) -> Select[Any]:
    return select(place.label("place"), *columns, literal(number).label("number")).where(*wanted)
