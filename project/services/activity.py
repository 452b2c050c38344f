"""Queues downloads, logins and uses of API keys, which upkeep writes to PostgreSQL."""

import logging
import threading
import time
from collections import deque
from uuid import UUID

from project.database import Database
from project.domain.audit import NewEntry
from project.queries.activity import save_activity

log = logging.getLogger(__name__)

MAX_ENTRIES = 1_000
"""Maximum number of audit entries that wait in memory while PostgreSQL is unavailable."""
BATCH = 100
"""Maximum number of audit entries per flush."""
MIN_USE_INTERVAL_S = 60.0
"""Minimum number of seconds between two writes of the last use of an API key."""


class Activity:
    """A queue of downloads, logins and uses of API keys that are not written yet. Thread-safe.

    Queueing neither delays a request nor makes it fail. Upkeep normally writes the queue within a second. Each event is
    written with its age, from which PostgreSQL computes the time by its own clock. While PostgreSQL is unavailable,
    events wait in memory; if the process ends before they are written, they are lost.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._entries: deque[tuple[NewEntry, float]] = deque()
        self._logins: dict[UUID, float] = {}
        self._uses: dict[UUID, float] = {}
        self._use_written_at: dict[UUID, float] = {}

    def add(self, entry: NewEntry) -> None:
        """Queue an audit entry. If the queue is full, only log its action and actor."""
        with self._lock:
            is_full = len(self._entries) >= MAX_ENTRIES
            if not is_full:
                self._entries.append((entry, time.monotonic()))
        if is_full:
            log.error("audit entry not recorded", extra={"action": entry.action, "actor": str(entry.actor_id)})

    def record_login(self, user_id: UUID) -> None:
        """Queue the login of a user, to be stored as the time of the last login."""
        with self._lock:
            self._logins[user_id] = time.monotonic()

    def record_use(self, key_id: UUID) -> None:
        """Queue the use of a valid API key, unless a use was written within MIN_USE_INTERVAL_S."""
        now = time.monotonic()
        if now - self._use_written_at.get(key_id, -MIN_USE_INTERVAL_S) >= MIN_USE_INTERVAL_S:
            with self._lock:
                self._uses[key_id] = now

    def flush(self) -> bool:
        """Write queued events; return whether audit entries remain in the queue.

        Raises DatabaseUnavailableError.
        """
        with self._lock:
            entries = [self._entries[index] for index in range(min(BATCH, len(self._entries)))]
            logins, uses = dict(self._logins), dict(self._uses)
        if not (entries or logins or uses):
            return False
        now = time.monotonic()
        self._database.run_once(
            save_activity,
            [(entry, now - at) for entry, at in entries],
            {user_id: now - at for user_id, at in logins.items()},
            {key_id: now - at for key_id, at in uses.items()},
        )
        with self._lock:
            written = {entry.id for entry, _ in entries}
            while self._entries and self._entries[0][0].id in written:
                self._entries.popleft()
            _remove_written(self._logins, logins)
            _remove_written(self._uses, uses)
            self._use_written_at |= uses
            return bool(self._entries)


def _remove_written(waiting: dict[UUID, float], written: dict[UUID, float]) -> None:
    """Remove written events from `waiting`, except those that have happened again since."""
    for event_id, at in written.items():
        if waiting.get(event_id) == at:
            del waiting[event_id]
