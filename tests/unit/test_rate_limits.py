"""Rate limits, tested with a clock that the test controls."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from project.domain.errors import RateLimitedError
from project.domain.rate_limits import Hit, RateLimit
from project.services import rate_limiting as module
from project.services.rate_limiting import CountersUnavailableError, LocalCounters, RateLimiter
from project.services.redis_counters import RedisCounters

LIMIT = RateLimit("guesses", 3, 60)


class Clock:
    """A clock that only the test advances."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        """Stand in for time.monotonic()."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The only clock of the rate limiter: any other use of `time` fails."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def limits() -> RateLimiter:
    """A rate limiter that counts in this process."""
    return RateLimiter("memory://", enabled=True)


def consume(limits: RateLimiter, times: int, key: str = "anna") -> None:
    """Consume several hits at once."""
    for _ in range(times):
        limits.consume(Hit(LIMIT, key))


def retry_after(limits: RateLimiter, key: str = "anna", rule: RateLimit = LIMIT) -> int | None:
    """Return the seconds until the next allowed request; None if one more is allowed."""
    try:
        limits.consume(Hit(rule, key))
    except RateLimitedError as error:
        return error.retry_after_s
    return None


def test_exactly_as_many_requests_as_the_limit_are_allowed(clock: Clock, limits: RateLimiter) -> None:
    consume(limits, 3)

    assert retry_after(limits) == 60


def test_a_refusal_says_when_the_window_ends(clock: Clock, limits: RateLimiter) -> None:
    consume(limits, 3)

    clock.now += 17.5

    assert retry_after(limits) == 43


def test_counting_restarts_in_the_next_window(clock: Clock, limits: RateLimiter) -> None:
    consume(limits, 3)

    clock.now += 60

    assert retry_after(limits) is None


def test_refused_requests_do_not_prolong_the_window(clock: Clock, limits: RateLimiter) -> None:
    consume(limits, 3)
    clock.now += 59
    retry_after(limits)

    clock.now += 1

    assert retry_after(limits) is None


def test_clients_and_limits_are_counted_separately(clock: Clock, limits: RateLimiter) -> None:
    consume(limits, 3)

    assert retry_after(limits, "ivan") is None
    assert retry_after(limits, rule=RateLimit("exports", 3, 60)) is None


def test_a_check_does_not_count(clock: Clock, limits: RateLimiter) -> None:
    for _ in range(5):
        limits.consume(Hit(LIMIT, "anna", 0))

    consume(limits, 3)
    with pytest.raises(RateLimitedError):
        limits.consume(Hit(LIMIT, "anna", 0))


def test_a_recorded_hit_is_seen_by_the_next_check(clock: Clock, limits: RateLimiter) -> None:
    for _ in range(3):
        limits.consume(Hit(LIMIT, "anna", 0))
        limits.record(Hit(LIMIT, "anna"))

    with pytest.raises(RateLimitedError):
        limits.consume(Hit(LIMIT, "anna", 0))


def test_a_refunded_hit_does_not_count(clock: Clock, limits: RateLimiter) -> None:
    for _ in range(5):
        limits.consume(Hit(LIMIT, "anna"))
        limits.refund(Hit(LIMIT, "anna"))
    limits.refund(Hit(LIMIT, "anna"), Hit(LIMIT, "nobody"))

    consume(limits, 3)

    assert retry_after(limits) == 60


def test_a_name_server_that_does_not_answer_holds_a_request_no_longer_than_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """F77: getaddrinfo() has no timeout."""
    released = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: released.wait(10) and [])
    limits = RateLimiter("redis://redis.example:6379/0", enabled=True)

    started = time.monotonic()
    limits.consume(Hit(LIMIT, "anna"))
    took = time.monotonic() - started
    released.set()

    assert limits.is_redis_unavailable
    assert took < 2


def test_disabled_limits_refuse_nothing(clock: Clock) -> None:
    limits = RateLimiter("memory://", enabled=False)

    consume(limits, 10)

    limits.consume(Hit(LIMIT, "anna", 0))


def test_a_refused_hit_is_not_counted_by_the_limits_after_it(clock: Clock, limits: RateLimiter) -> None:
    everybody = RateLimit("everybody", 4, 60)

    for _ in range(10):
        with suppress(RateLimitedError):
            limits.consume(Hit(LIMIT, "anna"), Hit(everybody, "everybody"))

    assert retry_after(limits, "everybody", everybody) is None


def test_other_requests_do_not_wait_while_one_checks_whether_redis_is_back(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = RateLimiter("redis://127.0.0.1:1/0", enabled=True)
    calls: list[Sequence[Hit]] = []

    def fail(_: RedisCounters, hits: Sequence[Hit]) -> None:
        calls.append(hits)
        if len(calls) == 2:
            consume(limits, 3, "other")
        raise CountersUnavailableError("ConnectionError")

    monkeypatch.setattr(RedisCounters, "consume", fail)
    consume(limits, 1)
    clock.now += module.REDIS_PAUSE_S

    consume(limits, 1)

    assert len(calls) == 2


def test_another_request_may_find_redis_available_at_any_moment(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = RateLimiter("redis://127.0.0.1:1/0", enabled=True)
    limits._unavailable_until = clock.now + 1

    def monotonic() -> float:
        limits._unavailable_until = None
        return clock.now

    monkeypatch.setattr(clock, "monotonic", monotonic)

    assert not limits._acquire_shared()


def test_the_number_of_local_counters_is_limited(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEYS", 100)
    counts = LocalCounters()

    for number in range(1_000):
        counts.consume([Hit(LIMIT, str(number))])

    assert len(counts._windows[LIMIT.name]) <= 100


def test_expired_windows_are_evicted_first(clock: Clock, limits: RateLimiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEYS", 2)
    consume(limits, 1, "old")
    clock.now += 59
    consume(limits, 3, "anna")
    clock.now += 1

    consume(limits, 1, "new")

    assert retry_after(limits, "anna") is not None


def test_many_keys_of_one_limit_do_not_evict_the_counters_of_another(
    clock: Clock, limits: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEYS", 3)
    everybody = RateLimit("everybody", 1, 60)
    limits.consume(Hit(everybody, "everybody"))

    for number in range(10):
        consume(limits, 1, str(number))

    assert retry_after(limits, "everybody", everybody) is not None


@pytest.mark.parametrize("uri", ["redis://u:valkey@valkey-1.internal/0", "valkey://u:valkey@valkey-1.internal/0"])
def test_only_the_scheme_of_valkey_is_replaced(uri: str) -> None:
    client: Any = RedisCounters(uri)._consume.registered_client

    connection = client.connection_pool.connection_kwargs
    assert (connection["host"], connection["password"]) == ("valkey-1.internal", "valkey")
