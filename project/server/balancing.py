"""Balances connections between workers.

The kernel wakes all workers for a new connection, and a running worker may accept several connections before another
worker is awake: of 16 simultaneous connections to two workers, one worker often got 12, sometimes 15 (measured).
"""

import mmap
import time
from collections.abc import Callable, Sized

YIELD_S = 0.002
"""Seconds by which a worker delays accept() if another worker has fewer connections."""


class ConnectionBalancer:
    """Counts each worker's connections, as of its last accept(), in shared memory.

    Create it before the fork.
    """

    def __init__(self, workers: int) -> None:
        self._open_connections = memoryview(mmap.mmap(-1, 4 * workers)).cast("i")

    def wrap_accept(self, accept: Callable[[], None], worker: int, connections: Sized) -> Callable[[], None]:
        """Wrap accept(): wait YIELD_S first if another worker has fewer open connections."""

        def balanced_accept() -> None:
            self._open_connections[worker] = len(connections)
            if self._open_connections[worker] > min(self._open_connections):
                time.sleep(YIELD_S)
            accept()
            self._open_connections[worker] = len(connections)

        return balanced_accept
