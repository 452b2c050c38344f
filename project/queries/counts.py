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

from project.domain.attempts import AttemptFilter
from project.domain.grains import EARLIEST, LATEST, Span, cover
from project.domain.reports import LIMITS_MS, Counts, Kind
from project.models import Attempt, AttemptCount
from project.queries.aggregates import DURATION, aggregated_up_to
from project.queries.filters import conditions, kinds, limit_search, within

Columns = Sequence[SQLColumnExpression[Any]]

_KIND = (Attempt.status, Attempt.code)
_DURATION: ColumnElement[int] = literal_column(DURATION, Integer).label("duration")
_SUMS = ", ".join(f"sum(durations[{place}])" for place, _ in enumerate(LIMITS_MS, 1))
_DURATIONS: ColumnElement[list[int | None]] = literal_column(f"array[{_SUMS}]::bigint[]").label("durations")
"""Faster than unnest(), and a text: to go through a hundred expressions takes SQLAlchemy longer than PostgreSQL."""
_MOMENTS = ARRAY(DateTime(timezone=True))


def count(connection: Connection, attempt_filter: AttemptFilter, edges: Sequence[datetime] = ()) -> Counts:
    """Return how many attempts of each kind were received between two neighbouring edges, and how long they took."""
    if attempt_filter.is_search:
        return _count_matches(connection, attempt_filter, edges)
    return Counts(count_kinds(connection, attempt_filter, edges).kinds, _count_durations(connection, attempt_filter))


def count_kinds(connection: Connection, attempt_filter: AttemptFilter, edges: Sequence[datetime] = ()) -> Counts:
    """Return how many attempts of each kind were received between two neighbouring edges, not how long they took."""
    if attempt_filter.is_search:
        return _count_matches(connection, attempt_filter, edges)
    mark, spans = aggregated_up_to(connection), list(_spans(attempt_filter, edges))
    sums = (AttemptCount.status, AttemptCount.code, func.sum(AttemptCount.number).label("number"))
    counted = _aggregated(spans, attempt_filter, sums, (AttemptCount.status, AttemptCount.code))
    rows = union_all(counted, *_unaggregated(mark, spans, attempt_filter, edges, _KIND)).subquery()
    kind, number = (rows.c.place, rows.c.status, rows.c.code), func.sum(rows.c.number)
    found = connection.execute(select(*kind, number).group_by(*kind).having(number > 0))
    return Counts(Counter({Kind(place, status, code): int(number) for place, status, code, number in found}))


def _count_durations(connection: Connection, attempt_filter: AttemptFilter) -> Counter[int]:
    mark, spans = aggregated_up_to(connection), list(_spans(attempt_filter, ()))
    found: Counter[int] = Counter()
    for _, numbers in connection.execute(_aggregated(spans, attempt_filter, (_DURATIONS,), ())):
        found.update({place: number or 0 for place, number in enumerate(numbers, 1)})
    rows = union_all(*_unaggregated(mark, spans, attempt_filter, (), (_DURATION,))).subquery()
    unaggregated = select(rows.c.duration, func.sum(rows.c.number)).group_by(rows.c.duration)
    found.update({place: int(number) for place, number in connection.execute(unaggregated)})
    return found


def _count_matches(connection: Connection, attempt_filter: AttemptFilter, edges: Sequence[datetime]) -> Counts:
    """Count the attempts themselves, all in one go: a text cannot be looked up in counts."""
    limit_search(connection, attempt_filter)
    rows = select(_place(edges), *_KIND, _DURATION).where(*conditions(attempt_filter)).subquery()
    query: Select[Any] = select(*rows.c, func.count()).group_by(*rows.c)
    found = Counts()
    for place, status, code, duration, number in connection.execute(query):
        found.kinds[Kind(place, status, code)] += number
        found.durations[duration] += number
    return found


def _spans(attempt_filter: AttemptFilter, edges: Sequence[datetime]) -> Iterator[tuple[int, Span]]:
    """Yield the spans of the period, each with its place among the edges, the same as _place() tells."""
    for place, (since, until) in enumerate(pairwise((EARLIEST, *edges, LATEST))):
        for span in cover(max(since, attempt_filter.since or since), min(until, attempt_filter.until or until)):
            yield place, span


def _place(edges: Sequence[datetime]) -> ColumnElement[int]:
    moments = literal(list(edges), _MOMENTS)
    return (func.width_bucket(Attempt.received_at, moments) if edges else literal(0)).label("place")


def _aggregated(
    spans: Sequence[tuple[int, Span]], attempt_filter: AttemptFilter, sums: Columns, groups: Columns
) -> Select[Any]:
    """Ask for sums of what is counted: a row for each span, or each group in it.

    LATERAL, because PostgreSQL would rather read all of the table than join it with spans.
    """
    whole = [(place, span) for place, span in spans if span.grain]
    lists = (
        literal([place for place, _ in whole], ARRAY(Integer)),
        literal([span.grain for _, span in whole], ARRAY(Text)),
        literal([span.since for _, span in whole], _MOMENTS),
        literal([span.until for _, span in whole], _MOMENTS),
    )
    span = func.unnest(*lists).table_valued("place", "grain", "since", "until", name="span").render_derived()
    inside = (AttemptCount.grain == span.c.grain, AttemptCount.at >= span.c.since, AttemptCount.at < span.c.until)
    wanted = kinds(attempt_filter, AttemptCount.status, AttemptCount.code)
    found = select(*sums).where(*inside, *wanted).group_by(*groups).lateral("found")
    return select(*(span.c.place, *found.c)).select_from(span).join(found, true())


def _unaggregated(
    mark: int,
    spans: Sequence[tuple[int, Span]],
    attempt_filter: AttemptFilter,
    edges: Sequence[datetime],
    columns: Columns,
) -> Iterator[Select[Any]]:
    """Ask for attempts that no whole grain has, and for those counted too late or too early for this picture."""
    wanted = kinds(attempt_filter, *_KIND)
    for place, span in spans:
        if span.grain is None:
            part = replace(attempt_filter, since=span.since, until=span.until, newest=mark)
            yield _rows(literal(place).label("place"), columns, 1).where(*within(part), *wanted)
    if attempt_filter.newest is None or attempt_filter.newest >= mark:
        yield _rows(_place(edges), columns, 1).where(Attempt.seq > mark, *within(attempt_filter), *wanted)
    else:
        counted_since = (Attempt.seq > attempt_filter.newest, *within(replace(attempt_filter, newest=mark)))
        yield _rows(_place(edges), columns, -1).where(*counted_since, *wanted)


def _rows(place: ColumnElement[int], columns: Columns, number: int) -> Select[Any]:
    return select(*(place, *columns, literal(number).label("number")))
