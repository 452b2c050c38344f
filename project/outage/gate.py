"""A fair way to wait for one's turn."""

import threading
from collections import deque


class Gate:
    """Lets `places` threads in at a time, in the order in which they came; `queue` bounds how many may wait.

    A plain semaphore, and the queue of SQLAlchemy's pool, give a place to whoever asks in the right moment: under load
    some thread is passed over for seconds (measured).
    """

    def __init__(self, places: int, queue: int | None = None) -> None:
        self._places = self._free = places
        self._queue = queue
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    @property
    def taken(self) -> int:
        """How many threads are in."""
        return self._places - self._free

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return len(self._waiting)

    def enter(self, timeout_s: float) -> bool:
        """Take a place, waiting for it at most so long; tell whether that worked."""
        with self._lock:
            if self._free and not self._waiting:
                self._free -= 1
                return True
            if self._queue is not None and len(self._waiting) >= self._queue:
                return False
            turn = threading.Event()
            self._waiting.append(turn)
        if turn.wait(timeout_s):
            return True
        with self._lock:
            if turn.is_set():  # it came in the last moment
                return True
            self._waiting.remove(turn)
        return False

    def leave(self) -> None:
        """Give the place to the one who has waited longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1
