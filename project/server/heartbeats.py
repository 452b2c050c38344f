"""Heartbeats of the workers, by which the supervisor finds those that hang."""

import mmap

CHECK_EVERY_S = 1.0
"""Interval of the checks; an event loop takes at most one second per round, however busy its threads are."""
HUNG_CHECKS = 30
"""A worker whose event loop has made no round between so many checks hangs."""


class Heartbeats:
    """Counts the rounds of the event loops in shared memory. Create it before the fork.

    Rounds and checks are counted, not seconds: after a pause of the whole machine no worker seems to hang.
    """

    def __init__(self, workers: int) -> None:
        self._rounds = memoryview(mmap.mmap(-1, 8 * workers)).cast("Q")
        self._seen = [0] * workers
        self._missed = [0] * workers

    def beat(self, worker: int) -> None:
        """Count a round. Called by the worker."""
        self._rounds[worker] += 1

    def start(self, worker: int) -> None:
        """Forget the previous process; the new one is checked from its first round on."""
        self._rounds[worker] = self._seen[worker] = self._missed[worker] = 0

    def find_hung(self) -> list[int]:
        """Check all workers; return those that hang, again every HUNG_CHECKS checks."""
        for worker, rounds in enumerate(self._rounds):
            self._missed[worker] = self._missed[worker] + 1 if rounds and rounds == self._seen[worker] else 0
            self._seen[worker] = rounds
        return [worker for worker, missed in enumerate(self._missed) if missed and missed % HUNG_CHECKS == 0]
