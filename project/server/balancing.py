"""Connection balancing between workers.

The kernel wakes all workers for each new connection, and one that is running accepts several before another is awake:
of 16 simultaneous connections one of two workers often got 12, sometimes 15 (measured).
"""

import mmap
import time
from collections.abc import Callable, Sized

YIELD_S = 0.002
"""How long a worker yields to a less loaded one before it accepts: the other may be dead or stuck."""


class ConnectionBalancer:
    """Balances connections by counts in shared memory; must be created before the fork."""

    def __init__(self, workers: int) -> None:
        self._open = memoryview(mmap.mmap(-1, 4 * workers)).cast("i")

    def wrap_accept(self, accept: Callable[[], None], worker: int, connections: Sized) -> Callable[[], None]:
        """Wrap accept() to yield to less loaded workers."""

        def balanced_accept() -> None:
            self._open[worker] = len(connections)
            if self._open[worker] > min(self._open):
                time.sleep(YIELD_S)
            accept()
            self._open[worker] = len(connections)

        return balanced_accept
