"""Heartbeats of the workers: the supervisor detects workers that hang."""

import mmap

CHECK_EVERY_S = 1.0
"""Seconds between checks. A round of an event loop takes at most one second, even if all threads are busy."""
HUNG_CHECKS = 30
"""Number of checks without a round of the event loop after which a worker counts as hanging."""
START_CHECKS = 120
"""Number of checks before the first round of a worker, which starts threads and opens the spool before that round."""


class Heartbeats:
    """Counts the rounds of the event loops in shared memory. Create it before the fork.

    Rounds and checks are counted instead of seconds, so that no worker seems to hang after the machine was suspended.
    """

    def __init__(self, workers: int) -> None:
        self._rounds = memoryview(mmap.mmap(-1, 8 * workers)).cast("Q")
        self._seen_rounds = [0] * workers
        self._missed_checks = [0] * workers

    def beat(self, worker: int) -> None:
        """Count a round of the event loop. Called in the process of this worker."""
        self._rounds[worker] += 1

    def start(self, worker: int) -> None:
        """Reset the counters of a worker whose process is new."""
        self._rounds[worker] = self._seen_rounds[worker] = self._missed_checks[worker] = 0

    def find_hung(self) -> list[int]:
        """Check all workers; return the indexes of those that hang. Call once per CHECK_EVERY_S.

        A worker hangs after HUNG_CHECKS checks without a round, or START_CHECKS checks without a first round. A worker
        that continues to hang is returned again after as many further checks.
        """
        return [worker for worker in range(len(self._seen_rounds)) if self._check(worker)]

    def _check(self, worker: int) -> bool:
        """Update the missed checks of a worker; return whether it hangs."""
        rounds = self._rounds[worker]
        self._missed_checks[worker] = self._missed_checks[worker] + 1 if rounds == self._seen_rounds[worker] else 0
        self._seen_rounds[worker] = rounds
        missed = self._missed_checks[worker]
        return missed > 0 and missed % (HUNG_CHECKS if rounds else START_CHECKS) == 0
