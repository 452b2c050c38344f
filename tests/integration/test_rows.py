"""Pages of attempts: whatever is filtered, all of them, each once, and never more looked at than shown."""

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

START = datetime(2026, 3, 9, 9, 20, tzinfo=UTC)
ENDS = (
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
    """Attempts of all ends over two days, in no order of time."""
    chance = random.Random(3)  # noqa: S311 - sample data
    for _ in range(200):
        status, code = chance.choice(ENDS)
        keep(app, START + timedelta(minutes=chance.uniform(0, 2900)), status=status, code=code)
    return rows.ask("select *, row_number() over (order by seq) as place from attempts order by id desc")


def is_chosen(row: dict[str, Any], chosen: AttemptFilter) -> bool:
    """Tell in other words than SQL whether a row is chosen."""
    return (
        (not chosen.outcomes or Outcome.of(row["status"]) in chosen.outcomes)
        and (not chosen.codes or row["code"] in chosen.codes)
        and (not chosen.statuses or row["status"] in chosen.statuses)
        and (chosen.since is None or row["received_at"] >= chosen.since)
        and (chosen.until is None or row["received_at"] < chosen.until)
        and (chosen.max_seq is None or row["seq"] <= chosen.max_seq)
    )


@pytest.mark.parametrize("chosen", FILTERS, ids=range(len(FILTERS)))
def test_pages_there_and_back_have_every_chosen_attempt_once(
    log: list[dict[str, Any]], runtime: Runtime, chosen: AttemptFilter
) -> None:
    if chosen.max_seq:
        chosen = AttemptFilter(statuses=chosen.statuses, max_seq=sorted(row["seq"] for row in log)[chosen.max_seq])
    expected = [row["id"] for row in log if is_chosen(row, chosen)]

    there: list[UUID] = []
    while page := reports.get_page(runtime.read_database, chosen, 7, before=there[-1] if there else None).attempts:
        there += [attempt.id for attempt in page]
    back: list[UUID] = there[-1:]
    while page := reports.get_page(runtime.read_database, chosen, 7, after=back[0]).attempts if back else []:
        back = [attempt.id for attempt in page] + back

    assert there == back == expected
    assert all(newer > older for newer, older in pairwise(there))
    first = runtime.read_database.read_transaction(attempts.find_first_received_at, chosen)
    assert first == min((row["received_at"] for row in log if is_chosen(row, chosen)), default=None)


@pytest.mark.parametrize(
    "chosen",
    [
        AttemptFilter(codes=frozenset({"interrupted"})),
        AttemptFilter(statuses=frozenset({0, 503})),
        AttemptFilter(outcomes=frozenset({Outcome.FAILED, Outcome.UNCHANGED})),
        AttemptFilter(text="=somebody"),
        AttemptFilter(text="01a210b6-8a27-7716-9869-37db72e817bd"),
    ],
    ids=["code", "statuses", "outcomes", "login", "id"],
)
def test_a_page_looks_at_no_attempt_that_it_does_not_show(
    log: list[dict[str, Any]], runtime: Runtime, rows: Rows, chosen: AttemptFilter
) -> None:
    plans: list[Any] = []
    rows.ask("analyze attempts")

    def explain(connection: Connection) -> None:
        for way in ("seqscan", "hashjoin", "mergejoin"):  # as with millions, where they do not pay
            connection.execute(text(f"set local enable_{way} = off"))
        for newest in (True, False):
            query = attempts.select_first((Attempt.id,), chosen, 3, newest_first=newest)
            compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
            found = connection.exec_driver_sql(f"explain (analyze, format json) {compiled}")
            plans.append(found.scalar_one()[0]["Plan"])

    runtime.read_database.read_transaction(explain)

    nodes = [node for plan in plans for node in _nodes(plan)]
    looked_at = [node for node in nodes if "Relation Name" in node]
    assert sum(node.get("Rows Removed by Filter", 0) for node in looked_at) == 0
    assert max(node["Actual Rows"] for node in looked_at) <= 3


def test_a_search_that_takes_too_long_is_given_up(
    log: list[dict[str, Any]], runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "SEARCH_S", 0.05)
    monkeypatch.setattr(filters, "matches", lambda _: [literal_column("(select 1 from pg_sleep(9)) = 1")])

    chosen = AttemptFilter(text="some")
    with pytest.raises(SearchTooBroadError):
        reports.count_statuses(runtime.read_database, chosen)
    with pytest.raises(SearchTooBroadError):
        reports.get_page(runtime.read_database, chosen, 25)
    assert not runtime.read_database.breaker.is_open


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]
