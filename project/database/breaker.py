"""A circuit breaker: requests fail at once while PostgreSQL is known to be unavailable."""

import logging
import time

log = logging.getLogger(__name__)


class Breaker:
    """A circuit breaker that is closed by a background probe, never by a request.

    It opens when a transaction fails for good and no other one has succeeded since that transaction started, so that a
    single stuck connection does not open it. Uses the monotonic clock. Thread-safe without a lock, because the fields
    are single values.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_open = False
        self._last_success = 0.0

    @property
    def is_open(self) -> bool:
        """Whether PostgreSQL is known to be unavailable."""
        return self._is_open

    def record_success(self) -> None:
        """Record that a transaction was committed just now."""
        self._last_success = time.monotonic()

    def record_failure(self, since: float) -> None:
        """Open the breaker unless a transaction succeeded after `since` (time.monotonic())."""
        if not self._is_open and self._last_success < since:
            self._is_open = True
            log.warning("database unavailable: breaker opened", extra={"breaker": self._name})

    def close(self) -> None:
        """Close the breaker: transactions are allowed again."""
        self.record_success()
        if self._is_open:
            self._is_open = False
            log.warning("database available: breaker closed", extra={"breaker": self._name})
