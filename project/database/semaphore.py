"""A semaphore that serves waiting threads in order."""

import threading
from collections import deque


class FairSemaphore:
    """A first-in, first-out semaphore with a bounded queue of waiting threads.

    threading.Semaphore and SQLAlchemy's pool may serve a thread that has come later: under load, some threads wait for
    seconds (measured).
    """

    def __init__(self, permits: int, max_waiting: int | None = None) -> None:
        """Create a semaphore. At most `max_waiting` threads wait at a time; any number if None."""
        self._permits = self._free = permits
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    @property
    def permits_in_use(self) -> int:
        """Number of permits in use."""
        return self._permits - self._free

    @property
    def waiting_threads(self) -> int:
        """Number of threads that are waiting for a permit."""
        return len(self._waiting)

    def acquire(self, timeout_s: float) -> bool:
        """Acquire a permit. Return False after `timeout_s`, or at once if too many threads wait."""
        with self._lock:
            if self._free and not self._waiting:
                self._free -= 1
                return True
            if self._max_waiting is not None and len(self._waiting) >= self._max_waiting:
                return False
            granted = threading.Event()
            self._waiting.append(granted)
        if granted.wait(timeout_s):
            return True
        with self._lock:
            if granted.is_set():  # granted between the timeout and this lock
                return True
            self._waiting.remove(granted)
        return False

    def release(self) -> None:
        """Release a permit: give it to the thread that has waited longest, if any waits."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1
