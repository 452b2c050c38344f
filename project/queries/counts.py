"""Counts attempts: adds up aggregates, and counts the rows that are not aggregated yet."""

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
from project.domain.grains import EARLIEST, LATEST, Span, split_into_spans
from project.domain.reports import DURATION_BUCKETS_MS, CountKey, Counts
from project.models import Attempt, AttemptCount
from project.queries.aggregates import DURATION_BUCKET, get_watermark
from project.queries.filters import filter_conditions, limit_search_time, outcome_conditions, period_conditions

Columns = Sequence[SQLColumnExpression[Any]]
Spans = Sequence[tuple[int, Span]]
"""Pairs of the index of a time bucket and a span within the bucket."""

_KIND = (Attempt.status, Attempt.code)
_DURATION: ColumnElement[int] = literal_column(DURATION_BUCKET, Integer).label("duration")
_SUMS = ", ".join(f"sum(durations[{bucket}])" for bucket, _ in enumerate(DURATION_BUCKETS_MS, 1))
_DURATIONS: ColumnElement[list[int | None]] = literal_column(f"array[{_SUMS}]::bigint[]").label("durations")
"""Array of the sums per duration bucket, faster than unnest(). Written as SQL, because SQLAlchemy would take longer to
compile a hundred expressions than PostgreSQL takes to execute them."""
_TIMESTAMPS = ARRAY(DateTime(timezone=True))


def count_attempts(connection: Connection, attempt_filter: AttemptFilter, edges: Sequence[datetime] = ()) -> Counts:
    """Count attempts by time bucket, status and code, and by duration.

    The time buckets are the time before the first edge, between adjacent edges, and after the last edge.
    """
    if attempt_filter.is_search:
        return _count_matches(connection, attempt_filter, edges)
    return Counts(count_kinds(connection, attempt_filter, edges).attempts, _count_durations(connection, attempt_filter))


def count_kinds(connection: Connection, attempt_filter: AttemptFilter, edges: Sequence[datetime] = ()) -> Counts:
    """Count attempts by time bucket, status and code.

    Faster than count_attempts(), because durations are counted only if the filter searches for text.
    """
    if attempt_filter.is_search:
        return _count_matches(connection, attempt_filter, edges)
    watermark, spans = get_watermark(connection), list(_iter_spans(attempt_filter, edges))
    sums = (AttemptCount.status, AttemptCount.code, func.sum(AttemptCount.number).label("number"))
    aggregated = _aggregates_query(spans, attempt_filter, sums, (AttemptCount.status, AttemptCount.code))
    rows = union_all(aggregated, *_row_queries(watermark, spans, attempt_filter, edges, _KIND)).subquery()
    kind, number = (rows.c.bucket, rows.c.status, rows.c.code), func.sum(rows.c.number)
    found = connection.execute(select(*kind, number).group_by(*kind).having(number > 0))
    return Counts(Counter({CountKey(bucket, status, code): int(number) for bucket, status, code, number in found}))


def _count_durations(connection: Connection, attempt_filter: AttemptFilter) -> Counter[int]:
    watermark, spans = get_watermark(connection), list(_iter_spans(attempt_filter, ()))
    found: Counter[int] = Counter()
    for _, numbers in connection.execute(_aggregates_query(spans, attempt_filter, (_DURATIONS,), ())):
        found.update({bucket: number or 0 for bucket, number in enumerate(numbers, 1)})
    rows = union_all(*_row_queries(watermark, spans, attempt_filter, (), (_DURATION,))).subquery()
    unaggregated = select(rows.c.duration, func.sum(rows.c.number)).group_by(rows.c.duration)
    found.update({bucket: int(number) for bucket, number in connection.execute(unaggregated)})
    return found


def _count_matches(connection: Connection, attempt_filter: AttemptFilter, edges: Sequence[datetime]) -> Counts:
    """Count the matching rows, because aggregates cannot be searched for text."""
    limit_search_time(connection, attempt_filter)
    rows = select(_bucket_expression(edges), *_KIND, _DURATION).where(*filter_conditions(attempt_filter)).subquery()
    query: Select[Any] = select(*rows.c, func.count()).group_by(*rows.c)
    found = Counts()
    for bucket, status, code, duration, number in connection.execute(query):
        found.attempts[CountKey(bucket, status, code)] += number
        found.durations[duration] += number
    return found


def _iter_spans(attempt_filter: AttemptFilter, edges: Sequence[datetime]) -> Iterator[tuple[int, Span]]:
    for bucket, (since, until) in enumerate(pairwise((EARLIEST, *edges, LATEST))):
        for span in split_into_spans(
            max(since, attempt_filter.since or since), min(until, attempt_filter.until or until)
        ):
            yield bucket, span


def _bucket_expression(edges: Sequence[datetime]) -> ColumnElement[int]:
    timestamps = literal(list(edges), _TIMESTAMPS)
    return (func.width_bucket(Attempt.received_at, timestamps) if edges else literal(0)).label("bucket")


def _aggregates_query(spans: Spans, attempt_filter: AttemptFilter, sums: Columns, groups: Columns) -> Select[Any]:
    """Return a query for the sums of aggregates, with a row for each span and group.

    LATERAL makes PostgreSQL use an index; for a plain join it would read the whole table.
    """
    aggregated_spans = [(bucket, span) for bucket, span in spans if span.grain]
    lists = (
        literal([bucket for bucket, _ in aggregated_spans], ARRAY(Integer)),
        literal([span.grain for _, span in aggregated_spans], ARRAY(Text)),
        literal([span.since for _, span in aggregated_spans], _TIMESTAMPS),
        literal([span.until for _, span in aggregated_spans], _TIMESTAMPS),
    )
    span = func.unnest(*lists).table_valued("bucket", "grain", "since", "until", name="span").render_derived()
    in_span = (AttemptCount.grain == span.c.grain, AttemptCount.at >= span.c.since, AttemptCount.at < span.c.until)
    wanted = outcome_conditions(attempt_filter, AttemptCount.status, AttemptCount.code)
    found = select(*sums).where(*in_span, *wanted).group_by(*groups).lateral("found")
    return select(*(span.c.bucket, *found.c)).select_from(span).join(found, true())


def _row_queries(
    watermark: int, spans: Spans, attempt_filter: AttemptFilter, edges: Sequence[datetime], columns: Columns
) -> Iterator[Select[Any]]:
    """Yield queries that count the rows that are not in the aggregates of `spans`.

    These are the rows of spans without a grain, which are too short for an aggregate, and rows after the watermark.
    If the watermark is above `max_seq`, the rows between `max_seq` and the watermark are subtracted instead.
    """
    wanted = outcome_conditions(attempt_filter, *_KIND)
    for bucket, span in spans:
        if span.grain is None:
            part = replace(attempt_filter, since=span.since, until=span.until, max_seq=watermark)
            yield _rows(literal(bucket).label("bucket"), columns, 1).where(*period_conditions(part), *wanted)
    if attempt_filter.max_seq is None or attempt_filter.max_seq >= watermark:
        yield _rows(_bucket_expression(edges), columns, 1).where(
            Attempt.seq > watermark, *period_conditions(attempt_filter), *wanted
        )
    else:
        surplus = (Attempt.seq > attempt_filter.max_seq, *period_conditions(replace(attempt_filter, max_seq=watermark)))
        yield _rows(_bucket_expression(edges), columns, -1).where(*surplus, *wanted)


def _rows(bucket: ColumnElement[int], columns: Columns, number: int) -> Select[Any]:
    return select(*(bucket, *columns, literal(number).label("number")))
