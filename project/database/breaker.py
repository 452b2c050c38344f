"""A circuit breaker: while PostgreSQL is known to be unavailable, requests fail at once."""

import logging
import time

log = logging.getLogger(__name__)

CHECK_OVERDUE_S = 1.0
"""Seconds after which an unfinished check counts as an outage in `unavailable_since`, even if the breaker is closed."""


class Breaker:
    """A circuit breaker that is closed by background threads, never by a request.

    The breaker opens after a transaction has failed in all its retries, unless another transaction succeeded meanwhile:
    a single stuck connection does not open it. Background threads call checks, which read, to notice an outage, and
    probes, which write, to notice its end. Uses the monotonic clock. Thread-safe without a lock, because each field is
    assigned atomically.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_open = False
        self._last_success = 0.0
        self._last_check = 0.0
        self._check_began: float | None = None
        self._failing_since = 0.0

    @property
    def is_open(self) -> bool:
        """Whether requests fail at once, because PostgreSQL is unavailable."""
        return self._is_open

    @property
    def unavailable_since(self) -> float | None:
        """Start of the outage by time.monotonic(); None if PostgreSQL is available."""
        return self._failing_since if self._is_open else self._overdue_check_began

    @property
    def checked_at(self) -> float:
        """End of the last success, check or probe by time.monotonic(); 0 before the first.

        Also the time when the breaker opened, or the start of an overdue check: these are results, too.
        """
        return max(self._last_success, self._last_check, self._overdue_check_began or 0.0)

    @property
    def _overdue_check_began(self) -> float | None:
        began = self._check_began
        return began if began is not None and time.monotonic() - began > CHECK_OVERDUE_S else None

    def begin_check(self) -> float:
        """Record that a check begins; return the current time by time.monotonic()."""
        self._check_began = began = time.monotonic()
        return began

    def end_check(self) -> None:
        """Record that the check has ended, whatever its result."""
        self.record_probe()
        self._check_began = None

    def record_probe(self) -> None:
        """Record that a probe has ended just now, whatever its result."""
        self._last_check = time.monotonic()

    def record_success(self) -> None:
        """Record that a transaction has succeeded just now."""
        self._last_success = time.monotonic()

    def record_failure(self, since: float) -> None:
        """Record a failure: open the breaker unless a transaction has succeeded since `since`.

        `since` is the start of the failed operation by time.monotonic().
        """
        if not self._is_open and self._last_success < since:
            self._failing_since = min(since, self._check_began or since)
            self.record_probe()
            self._is_open = True
            log.warning("database unavailable: breaker opened", extra={"breaker": self._name})

    def close(self) -> None:
        """Close the breaker: transactions are allowed again."""
        self.record_success()
        if self._is_open:
            self._is_open = False
            log.warning("database available: breaker closed", extra={"breaker": self._name})
