"""Periods are covered by whole grains without gaps or overlaps.

Durations are rounded up to limits.
"""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from project.domain.grains import EARLIEST, LATEST, Grain, Span, split_into_spans
from project.domain.reports import DURATION_BUCKETS_MS, Counts, Durations

MOMENTS = st.integers(0, 2**42).map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC))


@given(since=MOMENTS, length=st.timedeltas(timedelta(0), timedelta(days=4000)))
def test_a_period_is_covered_by_few_whole_grains_without_a_gap(since: datetime, length: timedelta) -> None:
    spans = list(split_into_spans(since, since + length))

    if length:
        assert (spans[0].since, spans[-1].until) == (since, since + length)
    assert bool(spans) == bool(length)
    assert all(before.until == after.since for before, after in pairwise(spans))
    assert all(span.grain.floor(edge) == edge for span in spans if span.grain for edge in (span.since, span.until))
    assert all(span.until - span.since < timedelta(minutes=30) for span in spans if not span.grain)
    assert len(spans) <= 2 * len(Grain) + 1


def test_the_longest_period_is_covered_by_months() -> None:
    assert list(split_into_spans(EARLIEST, LATEST)) == [Span(Grain.MONTH, EARLIEST, LATEST)]


@given(moment=MOMENTS)
def test_a_grain_ends_where_the_next_one_starts(moment: datetime) -> None:
    for grain in Grain:
        floor, ceil = grain.floor(moment), grain.ceil(moment)
        assert floor <= moment <= ceil
        assert grain.floor(ceil) == grain.ceil(ceil) == ceil
        assert floor == ceil or grain.ceil(floor + timedelta(microseconds=1)) == ceil


def test_duration_limits_overstate_by_at_most_ten_percent() -> None:
    assert list(DURATION_BUCKETS_MS) == sorted(set(DURATION_BUCKETS_MS))
    for ms in range(1, 5001):
        limit = next(limit for limit in DURATION_BUCKETS_MS if limit >= ms)
        assert limit <= 1.1 * ms


def test_percentiles_are_the_limits_that_cover_that_share_of_the_answers() -> None:
    counts = Counts()
    counts.durations.update({1: 50, 12: 45, 20: 4, 106: 1})

    assert counts.percentiles() == Durations(DURATION_BUCKETS_MS[0], DURATION_BUCKETS_MS[11], DURATION_BUCKETS_MS[19])
    assert Counts().percentiles() is None
