"""Counting how often somebody does something, without waiting for any clock."""

from collections.abc import Sequence
from contextlib import suppress

import pytest

from project.domain.errors import RateLimitedError
from project.domain.rate_limits import Hit, RateLimit
from project.services import rate_limiting as module
from project.services.rate_limiting import CountersUnavailableError, LocalCounters, RateLimiter
from project.services.redis_counters import RedisCounters

RULE = RateLimit("guesses", 3, 60)


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
def limits() -> RateLimiter:
    """Limits that count in this process."""
    return RateLimiter("memory://", enabled=True)


def spend(limits: RateLimiter, times: int, who: str = "anna") -> None:
    """Count so many at once."""
    for _ in range(times):
        limits.consume(Hit(RULE, who))


def refused(limits: RateLimiter, who: str = "anna", rule: RateLimit = RULE) -> int | None:
    """Return after how many seconds one may come again; None if one more is let in."""
    try:
        limits.consume(Hit(rule, who))
    except RateLimitedError as error:
        return error.retry_after_s
    return None


def test_as_many_as_the_rule_says_are_let_in_and_no_more(clock: Clock, limits: RateLimiter) -> None:
    spend(limits, 3)

    assert refused(limits) == 60


def test_who_is_refused_is_told_when_the_window_ends(clock: Clock, limits: RateLimiter) -> None:
    spend(limits, 3)

    clock.now += 17.5

    assert refused(limits) == 43


def test_the_next_window_begins_anew(clock: Clock, limits: RateLimiter) -> None:
    spend(limits, 3)

    clock.now += 60

    assert refused(limits) is None


def test_refused_requests_do_not_prolong_the_window(clock: Clock, limits: RateLimiter) -> None:
    spend(limits, 3)
    clock.now += 59
    refused(limits)

    clock.now += 1

    assert refused(limits) is None


def test_names_and_rules_are_counted_apart(clock: Clock, limits: RateLimiter) -> None:
    spend(limits, 3)

    assert refused(limits, "ivan") is None
    assert refused(limits, rule=RateLimit("exports", 3, 60)) is None


def test_a_check_counts_nothing(clock: Clock, limits: RateLimiter) -> None:
    for _ in range(5):
        limits.consume(Hit(RULE, "anna", 0))

    spend(limits, 3)
    with pytest.raises(RateLimitedError):
        limits.consume(Hit(RULE, "anna", 0))


def test_what_is_noted_is_found_by_the_next_check(clock: Clock, limits: RateLimiter) -> None:
    for _ in range(3):
        limits.consume(Hit(RULE, "anna", 0))
        limits.record(Hit(RULE, "anna"))

    with pytest.raises(RateLimitedError):
        limits.consume(Hit(RULE, "anna", 0))


def test_limits_that_are_switched_off_refuse_nobody(clock: Clock) -> None:
    limits = RateLimiter("memory://", enabled=False)

    spend(limits, 10)

    limits.consume(Hit(RULE, "anna", 0))


def test_a_refused_wish_is_not_charged_to_the_rules_behind_it(clock: Clock, limits: RateLimiter) -> None:
    everybody = RateLimit("everybody", 4, 60)

    for _ in range(10):
        with suppress(RateLimitedError):
            limits.consume(Hit(RULE, "anna"), Hit(everybody, "everybody"))

    assert refused(limits, "everybody", everybody) is None


def test_while_one_request_looks_whether_redis_is_back_no_other_waits_for_it(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = RateLimiter("redis://127.0.0.1:1/0", enabled=True)
    asked: list[Sequence[Hit]] = []

    def fail(_: RedisCounters, hits: Sequence[Hit]) -> None:
        asked.append(hits)
        if len(asked) == 2:
            spend(limits, 3, "meanwhile")
        raise CountersUnavailableError("ConnectionError")

    monkeypatch.setattr(RedisCounters, "consume", fail)
    spend(limits, 1)
    clock.now += module.RETRY_AFTER_S

    spend(limits, 1)

    assert len(asked) == 2


def test_redis_may_be_found_well_by_another_request_in_any_moment(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = RateLimiter("redis://127.0.0.1:1/0", enabled=True)
    limits._unavailable_until = clock.now + 1

    def monotonic() -> float:
        limits._unavailable_until = None
        return clock.now

    monkeypatch.setattr(clock, "monotonic", monotonic)

    assert not limits._should_use_shared()


def test_strangers_cannot_fill_the_memory(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEYS", 100)
    counts = LocalCounters()

    for number in range(1_000):
        counts.consume([Hit(RULE, str(number))])

    assert len(counts._windows[RULE.name]) <= 100


def test_room_is_made_by_forgetting_what_has_ended(
    clock: Clock, limits: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEYS", 2)
    spend(limits, 1, "old")
    clock.now += 59
    spend(limits, 3, "anna")
    clock.now += 1

    spend(limits, 1, "new")

    assert refused(limits, "anna") is not None


def test_a_flood_of_names_under_one_rule_harms_no_other(
    clock: Clock, limits: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEYS", 3)
    everybody = RateLimit("everybody", 1, 60)
    limits.consume(Hit(everybody, "everybody"))

    for number in range(10):
        spend(limits, 1, str(number))

    assert refused(limits, "everybody", everybody) is not None
