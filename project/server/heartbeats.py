"""Heartbeats of the workers, by which the supervisor detects workers that hang."""

import mmap

CHECK_EVERY_S = 1.0
"""Seconds between checks. A round of an event loop takes at most one second, even if all threads are busy."""
HUNG_CHECKS = 30
"""Number of checks without a round of its event loop after which a worker counts as hanging."""


class Heartbeats:
    """Counts the rounds of the event loops in shared memory. Create it before the fork.

    Rounds and checks are counted instead of seconds, so that no worker seems to hang after the machine was suspended.
    """

    def __init__(self, workers: int) -> None:
        self._rounds = memoryview(mmap.mmap(-1, 8 * workers)).cast("Q")
        self._seen = [0] * workers
        self._missed = [0] * workers

    def beat(self, worker: int) -> None:
        """Count a round of the event loop. Called in the process of this worker."""
        self._rounds[worker] += 1

    def start(self, worker: int) -> None:
        """Reset the counters of a worker whose process is new. It is checked after its first round."""
        self._rounds[worker] = self._seen[worker] = self._missed[worker] = 0

    def find_hung(self) -> list[int]:
        """Check all workers, once per CHECK_EVERY_S; return those without a round for HUNG_CHECKS.

        A worker that continues to hang is returned again after each further HUNG_CHECKS checks.
        """
        for worker, rounds in enumerate(self._rounds):
            self._missed[worker] = self._missed[worker] + 1 if rounds and rounds == self._seen[worker] else 0
            self._seen[worker] = rounds
        return [worker for worker, missed in enumerate(self._missed) if missed and missed % HUNG_CHECKS == 0]
