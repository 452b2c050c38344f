"""Remembers that PostgreSQL is away, so that requests do not all wait to find out for themselves."""

import logging
import time

log = logging.getLogger(__name__)


class Breaker:
    """Open as long as PostgreSQL is away: then transactions fail at once.

    It opens when one gave up during whose whole wait no other succeeded, so that one stuck connection opens nothing.
    Only a probe in the background closes it: no request is the guinea pig. Durations are of the clock that does not
    jump; the fields are single values, which threads may read and write without a lock.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_open = False
        self._last_success = 0.0

    @property
    def is_open(self) -> bool:
        """Whether PostgreSQL is known to be away."""
        return self._is_open

    def succeed(self) -> None:
        """Note that a transaction was committed just now."""
        self._last_success = time.monotonic()

    def give_up(self, since: float) -> None:
        """Note that a transaction that began at `since` (time.monotonic()) found nobody who would take it."""
        if not self._is_open and self._last_success < since:
            self._is_open = True
            log.warning("PostgreSQL is away", extra={"breaker": self._name})

    def close(self) -> None:
        """Let transactions through again."""
        self.succeed()
        if self._is_open:
            self._is_open = False
            log.warning("PostgreSQL is back", extra={"breaker": self._name})
