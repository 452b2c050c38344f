"""Counting how often somebody does something, without waiting for any clock."""

from collections.abc import Sequence
from contextlib import suppress

import pytest

from project.domain.errors import RateLimitedError
from project.services import limits as module
from project.services.limits import CountsAwayError, Limits, OwnCounts, Rule, Wish
from project.services.shared_counts import SharedCounts

RULE = Rule("guesses", 3, 60)


class Clock:
    """Goes when it is told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        """Stand in for time.monotonic()."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The only clock that limits look at: anything else they ask `time` for fails."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def limits() -> Limits:
    """Limits that count in this process."""
    return Limits("memory://", enabled=True)


def spend(limits: Limits, times: int, who: str = "anna") -> None:
    """Count so many at once."""
    for _ in range(times):
        limits.take(Wish(RULE, who))


def refused(limits: Limits, who: str = "anna", rule: Rule = RULE) -> int | None:
    """Return after how many seconds one may come again; None if one more is let in."""
    try:
        limits.take(Wish(rule, who))
    except RateLimitedError as error:
        return error.retry_after_s
    return None


def test_as_many_as_the_rule_says_are_let_in_and_no_more(clock: Clock, limits: Limits) -> None:
    spend(limits, 3)

    assert refused(limits) == 60


def test_who_is_refused_is_told_when_the_window_ends(clock: Clock, limits: Limits) -> None:
    spend(limits, 3)

    clock.now += 17.5

    assert refused(limits) == 43


def test_the_next_window_begins_anew(clock: Clock, limits: Limits) -> None:
    spend(limits, 3)

    clock.now += 60

    assert refused(limits) is None


def test_refused_requests_do_not_prolong_the_window(clock: Clock, limits: Limits) -> None:
    spend(limits, 3)
    clock.now += 59
    refused(limits)

    clock.now += 1

    assert refused(limits) is None


def test_names_and_rules_are_counted_apart(clock: Clock, limits: Limits) -> None:
    spend(limits, 3)

    assert refused(limits, "ivan") is None
    assert refused(limits, rule=Rule("exports", 3, 60)) is None


def test_a_check_counts_nothing(clock: Clock, limits: Limits) -> None:
    for _ in range(5):
        limits.take(Wish(RULE, "anna", 0))

    spend(limits, 3)
    with pytest.raises(RateLimitedError):
        limits.take(Wish(RULE, "anna", 0))


def test_what_is_noted_is_found_by_the_next_check(clock: Clock, limits: Limits) -> None:
    for _ in range(3):
        limits.take(Wish(RULE, "anna", 0))
        limits.note(Wish(RULE, "anna"))

    with pytest.raises(RateLimitedError):
        limits.take(Wish(RULE, "anna", 0))


def test_limits_that_are_switched_off_refuse_nobody(clock: Clock) -> None:
    limits = Limits("memory://", enabled=False)

    spend(limits, 10)

    limits.take(Wish(RULE, "anna", 0))


def test_a_refused_wish_is_not_charged_to_the_rules_behind_it(clock: Clock, limits: Limits) -> None:
    everybody = Rule("everybody", 4, 60)

    for _ in range(10):
        with suppress(RateLimitedError):
            limits.take(Wish(RULE, "anna"), Wish(everybody, "everybody"))

    assert refused(limits, "everybody", everybody) is None


def test_while_one_request_looks_whether_redis_is_back_no_other_waits_for_it(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits("redis://127.0.0.1:1/0", enabled=True)
    asked: list[Sequence[Wish]] = []

    def fail(_: SharedCounts, wishes: Sequence[Wish]) -> None:
        asked.append(wishes)
        if len(asked) == 2:
            spend(limits, 3, "meanwhile")
        raise CountsAwayError("ConnectionError")

    monkeypatch.setattr(SharedCounts, "take", fail)
    spend(limits, 1)
    clock.now += module.ASK_AGAIN_S

    spend(limits, 1)

    assert len(asked) == 2


def test_redis_may_be_found_well_by_another_request_in_any_moment(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits("redis://127.0.0.1:1/0", enabled=True)
    limits._away_until = clock.now + 1

    def monotonic() -> float:
        limits._away_until = None
        return clock.now

    monkeypatch.setattr(clock, "monotonic", monotonic)

    assert not limits._is_due()


def test_strangers_cannot_fill_the_memory(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 100)
    counts = OwnCounts()

    for number in range(1_000):
        counts.take([Wish(RULE, str(number))])

    assert len(counts._windows[RULE.name]) <= 100


def test_room_is_made_by_forgetting_what_has_ended(
    clock: Clock, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 2)
    spend(limits, 1, "old")
    clock.now += 59
    spend(limits, 3, "anna")
    clock.now += 1

    spend(limits, 1, "new")

    assert refused(limits, "anna") is not None


def test_a_flood_of_names_under_one_rule_harms_no_other(
    clock: Clock, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 3)
    everybody = Rule("everybody", 1, 60)
    limits.take(Wish(everybody, "everybody"))

    for number in range(10):
        spend(limits, 1, str(number))

    assert refused(limits, "everybody", everybody) is not None
