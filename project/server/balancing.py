"""How many connections each worker holds, so that none takes more than its part.

The kernel wakes all workers for each new connection, and one that happens to run takes several before the next one is
awake: of 16 connections at once one of two workers often got 12, and at times 15 (measured).
"""

import mmap
import time
from collections.abc import Callable, Sized

PATIENCE_S = 0.002
"""How long a worker that holds more than another one lets that one go first. Then it takes the connection itself: the
other one may be dead or stuck."""


class ConnectionBalancer:
    """A number for each worker, in memory that all of them share: made before they are forked."""

    def __init__(self, workers: int) -> None:
        self._held = memoryview(mmap.mmap(-1, 4 * workers)).cast("i")

    def wrap_accept(self, accept: Callable[[], None], worker: int, connections: Sized) -> Callable[[], None]:
        """Return what accepts a connection for a worker, after a moment if another one holds fewer."""

        def balanced_accept() -> None:
            self._held[worker] = len(connections)
            if self._held[worker] > min(self._held):
                time.sleep(PATIENCE_S)
            accept()
            self._held[worker] = len(connections)

        return balanced_accept
