"""How often somebody may do something: counted in this process, or in a Redis that several processes share.

Windows are fixed and begin with their first request. Of a clock that jumps nothing depends (fault F30).
"""

import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from project.domain.errors import RateLimitedError

log = logging.getLogger(__name__)

MOST_REMEMBERED = 100_000
"""Names that a process remembers for each rule, some 20 MB: strangers must not fill the memory."""
ASK_AGAIN_S = 5.0
"""How long a Redis that failed is left alone. Then one request asks it; all others are counted here meanwhile."""


@dataclass(frozen=True, slots=True)
class Rule:
    """So much in so many seconds, for each name that is counted under it."""

    name: str
    most: int
    seconds: int


class Wish(NamedTuple):
    """To do once more what a rule counts. With an amount of 0 it is only asked whether that would do."""

    rule: Rule
    who: str
    amount: int = 1


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say of requests to /useradd."""

    client: Rule
    everybody: Rule
    conflicts: Rule

    @classmethod
    def of(cls, client: int, everybody: int, conflicts: int) -> "Rules":
        """Return the rules for so many requests in a minute."""
        return cls(Rule("client", client, 60), Rule("everybody", everybody, 60), Rule("conflicts", conflicts, 60))


class CountsAwayError(Exception):
    """Redis did not count; the message names the cause."""


class Counts(Protocol):
    """Counts for several processes."""

    def take(self, wishes: Sequence[Wish]) -> "Refused | None":
        """Count wishes one after the other until one is too many; return that one. Raises CountsAwayError."""


def _shared_counts(address: str) -> Counts:
    from project.services.shared_counts import SharedCounts  # noqa: PLC0415 - 8 MB and 0.15 s for those who use Redis

    return SharedCounts(address)


class Limits:
    """Refuses what is too often. Never fails and never waits long, whatever state Redis is in."""

    def __init__(self, address: str, *, enabled: bool) -> None:
        self._enabled = enabled
        self._own = OwnCounts()
        self._shared = None if address == "memory://" else _shared_counts(address)
        self._away_until: float | None = None

    def take(self, *wishes: Wish) -> None:
        """Count these wishes. Raises RateLimitedError at the first that is too many; those behind it do not count."""
        refused = self._take(wishes) if self._enabled else None
        if refused is not None:
            seconds, left_s = wishes[refused.place].rule.seconds, refused.left_s
            raise RateLimitedError(min(seconds, max(1, math.ceil(left_s))))

    def note(self, *wishes: Wish) -> None:
        """Count what has happened; whether that is too many is found by the next take()."""
        if self._enabled:
            self._take(wishes)

    def takes_here(self, *wishes: Wish) -> bool:
        """Count these wishes in this process alone; tell whether none is too many."""
        return self._own.take(wishes) is None

    @property
    def is_away(self) -> bool:
        """Whether Redis should count and does not answer."""
        return self._away_until is not None

    def _take(self, wishes: Sequence[Wish]) -> "Refused | None":
        if self._shared is not None and self._is_due():
            try:
                answer = self._shared.take(wishes)
            except CountsAwayError as error:
                self._leave_alone(error)
            else:
                self._away_until = None
                return answer
        return self._own.take(wishes)

    def _is_due(self) -> bool:
        until, now = self._away_until, time.monotonic()  # looked at once: meanwhile another thread may find Redis well
        if until is None:
            return True
        if now < until:
            return False
        self._away_until = now + ASK_AGAIN_S  # others need not wait for what this request finds out
        return True

    def _leave_alone(self, error: CountsAwayError) -> None:
        if self._away_until is None:
            log.error("Redis does not count: each process counts for itself", extra={"cause": str(error)})
        self._away_until = time.monotonic() + ASK_AGAIN_S


class Refused(NamedTuple):
    """Which wish was too many, and in how many seconds its window ends."""

    place: int
    left_s: float


class OwnCounts:
    """Counts in the memory of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, dict[str, tuple[int, float]]] = defaultdict(dict)
        """Name of the rule -> name of who is counted -> count and end of the window, by time.monotonic()."""

    def take(self, wishes: Sequence[Wish]) -> Refused | None:
        """Count wishes one after the other until one is too many; return that one."""
        now = time.monotonic()
        with self._lock:
            for place, (rule, who, amount) in enumerate(wishes):
                windows = self._windows[rule.name]
                count, end = windows.get(who, (0, 0.0))
                if end <= now:
                    count, end = 0, now + rule.seconds
                if count >= rule.most:
                    return Refused(place, end - now)
                if amount:
                    if len(windows) >= MOST_REMEMBERED and who not in windows:
                        _make_room(windows, now)
                    windows[who] = (count + amount, end)
        return None


def _make_room(windows: dict[str, tuple[int, float]], now: float) -> None:
    """Forget windows that have ended, and all if that is not much: whoever has so many names is not kept off anyway."""
    for who in [who for who, (_, end) in windows.items() if end <= now]:
        del windows[who]
    if len(windows) > MOST_REMEMBERED // 2:  # else the next names would look through all of them again
        windows.clear()
