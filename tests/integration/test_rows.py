"""Pages of attempts: complete for every filter and without duplicates.

They read no rows that they do not show.
"""

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Connection, literal_column, text

from project.domain.attempts import AttemptFilter, Outcome
from project.domain.errors import SearchTooBroadError
from project.models import Attempt
from project.queries import attempts, filters
from project.runtime import Runtime
from project.services import reports
from tests.conftest import Rows
from tests.functional.attempts import keep

pytestmark = pytest.mark.slow  # inserts many rows

START = datetime(2026, 3, 9, 9, 20, tzinfo=UTC)
OUTCOMES = (
    (201, "created"),
    (200, "dry_run"),
    (422, "invalid_phone"),
    (422, "required"),
    (400, "required"),
    (409, "username_taken"),
    (503, "database_unavailable"),
    (0, "interrupted"),
)
FILTERS = [
    AttemptFilter(outcomes=frozenset({Outcome.REJECTED})),
    AttemptFilter(outcomes=frozenset({Outcome.FAILED, Outcome.UNCHANGED}), until=START + timedelta(hours=30)),
    AttemptFilter(codes=frozenset({"required", "created", "never_seen"})),
    AttemptFilter(codes=frozenset({"required"}), statuses=frozenset({422}), since=START + timedelta(hours=3)),
    AttemptFilter(statuses=frozenset({0, 201, 409}), max_seq=150),
    AttemptFilter(outcomes=frozenset({Outcome.CREATED}), codes=frozenset({"required"})),
    AttemptFilter(outcomes=frozenset({Outcome.REJECTED}), text="some"),
    AttemptFilter(),
]


@pytest.fixture
def log(app: Flask, runtime: Runtime, rows: Rows) -> list[dict[str, Any]]:
    """Attempts of all outcomes over two days, in random order of time."""
    chance = random.Random(3)  # noqa: S311 - sample data
    for _ in range(200):
        status, code = chance.choice(OUTCOMES)
        keep(app, START + timedelta(minutes=chance.uniform(0, 2900)), status=status, code=code)
    return rows.query("select *, row_number() over (order by seq) as position from attempts order by id desc")


def matches(row: dict[str, Any], attempt_filter: AttemptFilter) -> bool:
    """Return whether a row matches a filter, without SQL."""
    return (
        (not attempt_filter.outcomes or Outcome.of(row["status"]) in attempt_filter.outcomes)
        and (not attempt_filter.codes or row["code"] in attempt_filter.codes)
        and (not attempt_filter.statuses or row["status"] in attempt_filter.statuses)
        and (attempt_filter.since is None or row["received_at"] >= attempt_filter.since)
        and (attempt_filter.until is None or row["received_at"] < attempt_filter.until)
        and (attempt_filter.max_seq is None or row["seq"] <= attempt_filter.max_seq)
    )


@pytest.mark.parametrize("attempt_filter", FILTERS, ids=range(len(FILTERS)))
def test_paging_forward_and_backward_shows_every_matching_attempt_once(
    log: list[dict[str, Any]], runtime: Runtime, attempt_filter: AttemptFilter
) -> None:
    if attempt_filter.max_seq:
        attempt_filter = AttemptFilter(
            statuses=attempt_filter.statuses, max_seq=sorted(row["seq"] for row in log)[attempt_filter.max_seq]
        )
    expected = [row["id"] for row in log if matches(row, attempt_filter)]

    forward: list[UUID] = []
    while page := reports.get_page(
        runtime.read_database, attempt_filter, 7, before=forward[-1] if forward else None
    ).attempts:
        forward += [attempt.id for attempt in page]
    backward: list[UUID] = forward[-1:]
    while (
        page := reports.get_page(runtime.read_database, attempt_filter, 7, after=backward[0]).attempts
        if backward
        else []
    ):
        backward = [attempt.id for attempt in page] + backward

    assert forward == backward == expected
    assert all(newer > older for newer, older in pairwise(forward))
    first = runtime.read_database.read_transaction(attempts.find_first_received_at, attempt_filter)
    assert first == min((row["received_at"] for row in log if matches(row, attempt_filter)), default=None)


@pytest.mark.parametrize(
    "attempt_filter",
    [
        AttemptFilter(codes=frozenset({"interrupted"})),
        AttemptFilter(statuses=frozenset({0, 503})),
        AttemptFilter(outcomes=frozenset({Outcome.FAILED, Outcome.UNCHANGED})),
        AttemptFilter(text="=somebody"),
        AttemptFilter(text="01a210b6-8a27-7716-9869-37db72e817bd"),
    ],
    ids=["code", "statuses", "outcomes", "login", "id"],
)
def test_a_page_reads_no_attempt_that_it_does_not_show(
    log: list[dict[str, Any]], runtime: Runtime, rows: Rows, attempt_filter: AttemptFilter
) -> None:
    plans: list[Any] = []
    rows.query("analyze attempts")

    def explain(connection: Connection) -> None:
        for method in ("seqscan", "hashjoin", "mergejoin"):  # as with millions of rows, where they do not pay off
            connection.execute(text(f"set local enable_{method} = off"))
        for newest in (True, False):
            query = attempts.select_first((Attempt.id,), attempt_filter, 3, newest_first=newest)
            compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
            found = connection.exec_driver_sql(f"explain (analyze, format json) {compiled}")
            plans.append(found.scalar_one()[0]["Plan"])

    runtime.read_database.read_transaction(explain)

    nodes = [node for plan in plans for node in _nodes(plan)]
    scans = [node for node in nodes if "Relation Name" in node]
    assert sum(node.get("Rows Removed by Filter", 0) for node in scans) == 0
    assert max(node["Actual Rows"] for node in scans) <= 3


@pytest.mark.slow
def test_a_search_that_takes_too_long_is_cancelled(
    log: list[dict[str, Any]], runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "search_conditions", lambda _: [literal_column("(select 1 from pg_sleep(9)) = 1")])

    attempt_filter = AttemptFilter(text="some")
    with pytest.raises(SearchTooBroadError):
        reports.count_statuses(runtime.read_database, attempt_filter)
    with pytest.raises(SearchTooBroadError):
        reports.get_page(runtime.read_database, attempt_filter, 25)
    assert not runtime.read_database.breaker.is_open


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]
