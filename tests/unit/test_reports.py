"""The columns of charts: whole units of local time, limited in number, without gaps."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from project.domain.attempts import AttemptFilter
from project.domain.reports import MAX_BUCKETS, CodeCount, Report, StatusCount, bucket_edges, day_edges

BERLIN, MOSCOW = ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Moscow")
SPRING, AUTUMN = datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)
"""The moments at which clocks change in Berlin: 02:00 becomes 03:00, 03:00 becomes 02:00."""
ZONES = st.sampled_from(
    [
        *("UTC", "Europe/Moscow", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu"),
        *("America/Havana", "Asia/Beirut", "Australia/Lord_Howe", "Pacific/Apia", "Atlantic/Azores"),
    ]
).map(ZoneInfo)
"""Includes zones that change at midnight, that change by half an hour, and one that skipped a day."""
LENGTHS = st.sampled_from(
    [
        *(timedelta(hours=hours) for hours in (0, 1, 24, 25, 26, 7 * 24, 7 * 24 + 1, 7 * 24 + 2)),
        *(timedelta(days=days) for days in (58, 59, 60, 58 * 7, 59 * 7, 60 * 7, 20_000)),
    ]
) | st.timedeltas(timedelta(seconds=1), timedelta(days=4000))
OFFSETS = st.timedeltas(timedelta(days=-7000), timedelta(days=7000)) | st.integers(-4000, 4000).map(
    lambda minutes: timedelta(minutes=minutes)
)
MOMENTS = st.builds(lambda change, offset: change + offset, st.sampled_from([SPRING, AUTUMN]), OFFSETS)


@given(since=MOMENTS, length=LENGTHS, zone=ZONES)
@example(datetime(2026, 3, 1, 22, 30, tzinfo=UTC), timedelta(days=59), BERLIN)
@example(datetime(2026, 3, 2, 22, 30, tzinfo=UTC), timedelta(weeks=59), BERLIN)
@settings(deadline=None, max_examples=500)
@pytest.mark.slow
def test_the_columns_are_limited_in_number_and_cover_the_period_in_order(
    since: datetime, length: timedelta, zone: ZoneInfo
) -> None:
    _, edges = bucket_edges(since, since + length, zone)

    moments = [edge.astimezone(UTC) for edge in edges]
    assert moments == sorted(set(moments))
    assert moments[0] <= since
    assert moments[-1] >= since + length
    assert len(moments) - 1 <= MAX_BUCKETS
    assert len(moments) < 2 or moments[-2] < since + length


@given(since=MOMENTS, length=LENGTHS, zone=ZONES)
@settings(deadline=None)
def test_a_period_in_local_time_has_the_same_columns(since: datetime, length: timedelta, zone: ZoneInfo) -> None:
    until = since + length

    edges = bucket_edges(since.astimezone(zone), until.astimezone(zone), zone)

    assert edges == bucket_edges(since, until, zone)


@given(since=MOMENTS, length=LENGTHS, zone=st.sampled_from([BERLIN, MOSCOW]))
@settings(deadline=None)
def test_every_edge_is_a_whole_unit_of_local_time(since: datetime, length: timedelta, zone: ZoneInfo) -> None:
    step, edges = bucket_edges(since, since + length, zone)

    for edge in edges:
        assert edge.tzinfo is zone
        assert edge.second == edge.microsecond == 0
        match step:
            case "30min":
                assert edge.minute in {0, 30}
            case "3h":
                assert (edge.hour % 3, edge.minute) == (0, 0)
            case "day":
                assert (edge.hour, edge.minute) == (0, 0)
            case "week":
                assert (edge.weekday(), edge.hour, edge.minute) == (0, 0, 0)
            case _:
                assert (step, edge.day, edge.hour, edge.minute) == ("month", 1, 0, 0)


@pytest.mark.parametrize(
    ("length", "step", "width"),
    [
        (timedelta(hours=24), "30min", timedelta(minutes=30)),
        (timedelta(days=7), "3h", timedelta(hours=3)),
        (timedelta(days=30), "day", timedelta(days=1)),
        (timedelta(days=90), "week", timedelta(days=7)),
    ],
)
def test_the_step_grows_with_the_period(length: timedelta, step: str, width: timedelta) -> None:
    since = datetime(2026, 9, 14, tzinfo=MOSCOW)

    name, edges = bucket_edges(since, since + length, MOSCOW)

    assert name == step
    assert {later - earlier for earlier, later in pairwise(edges)} == {width}


def test_years_are_shown_by_month_and_many_years_by_several_months() -> None:
    since = datetime(2000, 1, 15, tzinfo=MOSCOW)

    few = bucket_edges(since, datetime(2004, 1, 15, tzinfo=MOSCOW), MOSCOW)
    many = bucket_edges(since, datetime(2026, 1, 15, tzinfo=MOSCOW), MOSCOW)

    assert (few[0], len(few[1]) - 1, many[0]) == ("month", 49, "month")
    assert {(later.month - earlier.month) % 12 for earlier, later in pairwise(many[1])} == {6}


def test_a_day_on_which_clocks_skip_an_hour_has_46_half_hours() -> None:
    midnight = datetime(2026, 3, 29, tzinfo=BERLIN)

    _, edges = bucket_edges(midnight, datetime(2026, 3, 30, tzinfo=BERLIN), BERLIN)

    assert len(edges) - 1 == 46
    assert [f"{edge:%H:%M}" for edge in edges[2:6]] == ["01:00", "01:30", "03:00", "03:30"]


def test_each_half_hour_that_clocks_repeat_has_a_column_of_its_own() -> None:
    midnight = datetime(2026, 10, 24, 22, tzinfo=UTC)

    step, edges = bucket_edges(midnight, midnight + timedelta(hours=25), BERLIN)

    assert step == "30min"
    assert {later.astimezone(UTC) - edge.astimezone(UTC) for edge, later in pairwise(edges)} == {timedelta(minutes=30)}
    assert len(edges) == 51
    assert [f"{edge:%H:%M}{edge:%z}" for edge in edges if edge.hour == 2] == [
        *("02:00+0200", "02:30+0200", "02:00+0100", "02:30+0100"),
    ]


def test_days_of_23_and_25_hours_are_one_column_each() -> None:
    spring = day_edges(SPRING - timedelta(days=1), SPRING + timedelta(days=1), BERLIN)
    autumn = day_edges(AUTUMN - timedelta(days=1), AUTUMN + timedelta(days=1), BERLIN)

    assert _hours(spring) == [24, 23, 24]
    assert _hours(autumn) == [24, 25, 24]


def _hours(edges: list[datetime]) -> list[float]:
    """Return the elapsed hours between neighbouring edges."""
    moments = [edge.astimezone(UTC) for edge in edges]
    return [(later - earlier) / timedelta(hours=1) for earlier, later in pairwise(moments)]


def test_an_empty_period_has_one_edge_and_no_column() -> None:
    moment = datetime(2026, 11, 23, tzinfo=MOSCOW)

    assert bucket_edges(moment, moment, MOSCOW) == ("30min", [moment])


def test_the_totals_of_a_report_are_computed_from_its_statuses() -> None:
    report = Report(
        attempt_filter=AttemptFilter(),
        zone=MOSCOW,
        since=None,
        until=SPRING,
        step="day",
        by_status=tuple(StatusCount(*row) for row in [(201, 7), (422, 5), (409, 4), (200, 3), (503, 2), (0, 1)]),
        by_code=tuple(
            CodeCount(*row)
            for row in [("created", 201, 7), ("blank", 422, 5), ("replayed", 200, 3), ("interrupted", 0, 1)]
        ),
        series=(),
        durations=None,
    )

    assert (report.created, report.rejected, report.unchanged, report.failed) == (7, 9, 3, 3)
    assert report.total == 22
    assert [row.code for row in report.by_error_code] == ["blank", "interrupted"]
