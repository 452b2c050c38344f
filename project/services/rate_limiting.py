"""Rate limiting with fixed windows, counted in this process or in a shared Redis.

A window begins with its first request. In this process, the monotonic clock measures windows.
"""

import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, Protocol

from project.domain.errors import RateLimitedError
from project.domain.rate_limits import ExceededLimit, Hit

log = logging.getLogger(__name__)

MAX_KEYS = 100_000
"""Maximum number of keys, such as client addresses, that a process counts for each limit (about 20 MB of memory)."""
REDIS_PAUSE_S = 5.0
"""Seconds for which Redis is not used after a failure. After that, one request tries Redis, while other requests
are still counted in this process."""


class CountersUnavailableError(Exception):
    """Redis failed; the message names the cause."""


class Counters(Protocol):
    """Interface of rate limit counters, in this process or in Redis.

    The methods raise CountersUnavailableError if Redis fails.
    """

    def consume(self, hits: Sequence[Hit]) -> ExceededLimit | None:
        """Count hits in order until one exceeds its limit; return which one, or None."""

    def refund(self, hits: Sequence[Hit]) -> None:
        """Subtract hits that were counted."""


def _create_redis_counters(uri: str) -> Counters:
    from project.services.redis_counters import RedisCounters  # noqa: PLC0415 - the library takes 8 MB and 0.15 s

    return RedisCounters(uri)


class RateLimiter:
    """Enforces rate limits. While Redis fails, requests are counted in this process.

    If not `enabled`, only consume_locally() counts; the other methods do nothing.
    """

    def __init__(self, uri: str, *, enabled: bool) -> None:
        self._enabled = enabled
        self._local = LocalCounters()
        self._shared = None if uri == "memory://" else _create_redis_counters(uri)
        self._unavailable_until: float | None = None

    def consume(self, *hits: Hit) -> None:
        """Count hits in order. Raises RateLimitedError at the first one that exceeds its limit."""
        exceeded = self._call("consume", hits) if self._enabled else None
        if exceeded is not None:
            seconds, left_s = hits[exceeded.position].limit.seconds, exceeded.left_s
            raise RateLimitedError(min(seconds, max(1, math.ceil(left_s))))

    def record(self, *hits: Hit) -> None:
        """Count hits in order until one exceeds its limit; the next consume() raises the error."""
        if self._enabled:
            self._call("consume", hits)

    def refund(self, *hits: Hit) -> None:
        """Subtract hits that consume() has counted."""
        if self._enabled:
            self._call("refund", hits)

    def consume_locally(self, *hits: Hit) -> bool:
        """Count hits in this process only; return whether they are within their limits."""
        return self._local.consume(hits) is None

    @property
    def is_redis_unavailable(self) -> bool:
        """Whether Redis is configured and failed when it was used last."""
        return self._unavailable_until is not None

    def _call(self, method: Literal["consume", "refund"], hits: Sequence[Hit]) -> ExceededLimit | None:
        if self._shared is not None and self._acquire_shared():
            try:
                exceeded: ExceededLimit | None = getattr(self._shared, method)(hits)
            except CountersUnavailableError as error:
                self._suspend_shared(error)
            else:
                self._unavailable_until = None
                return exceeded
        result: ExceededLimit | None = getattr(self._local, method)(hits)
        return result

    def _acquire_shared(self) -> bool:
        """Return whether this call uses Redis: after a failure, only one call per pause does."""
        until, now = self._unavailable_until, time.monotonic()  # read once: another thread may reset the time
        if until is None:
            return True
        if now < until:
            return False
        self._unavailable_until = now + REDIS_PAUSE_S  # meanwhile, other requests do not try Redis
        return True

    def _suspend_shared(self, error: CountersUnavailableError) -> None:
        if self._unavailable_until is None:
            log.error("Redis unavailable: rate limits are counted per process", extra={"cause": str(error)})
        self._unavailable_until = time.monotonic() + REDIS_PAUSE_S


class LocalCounters:
    """Rate limit counters in the memory of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, dict[str, tuple[int, float]]] = defaultdict(dict)
        """Limit name -> key -> count and end of the window, by time.monotonic()."""

    def consume(self, hits: Sequence[Hit]) -> ExceededLimit | None:
        """Count hits in order until one exceeds its limit; return which one, or None."""
        now = time.monotonic()
        with self._lock:
            for index, (limit, key, amount) in enumerate(hits):
                windows = self._windows[limit.name]
                count, end = windows.get(key, (0, 0.0))
                if end <= now:
                    count, end = 0, now + limit.seconds
                if count >= limit.requests:
                    return ExceededLimit(index, end - now)
                if amount:
                    if len(windows) >= MAX_KEYS and key not in windows:
                        _evict(windows, now)
                    windows[key] = (count + amount, end)
        return None

    def refund(self, hits: Sequence[Hit]) -> None:
        """Subtract hits that were counted; delete counters that reach zero."""
        with self._lock:
            for limit, key, amount in hits:
                windows = self._windows[limit.name]
                count, end = windows.pop(key, (0, 0.0))
                if count > amount:
                    windows[key] = (count - amount, end)


def _evict(windows: dict[str, tuple[int, float]], now: float) -> None:
    """Delete the windows that have ended; if more than MAX_KEYS // 2 are left, delete all."""
    for key in [key for key, (_, end) in windows.items() if end <= now]:
        del windows[key]
    if len(windows) > MAX_KEYS // 2:  # otherwise every new key would scan all windows again
        windows.clear()
