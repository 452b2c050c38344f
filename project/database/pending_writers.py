"""Counts threads that are about to write, so that a group commit can wait for them."""

import threading


class PendingWriters:
    """A context manager that counts the threads in its block, which prepare a write.

    A thread is no longer counted once it has called arrive() or left the block.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._entered_count = self._arrived_count = 0
        self._waits: list[_Wait] = []

    def __enter__(self) -> None:
        with self._lock:
            self._entered_count += 1
            self._thread.number = self._entered_count

    def __exit__(self, *_: object) -> None:
        self.arrive()

    def arrive(self) -> None:
        """Stop counting this thread, because it writes now or will not write. Idempotent."""
        number = getattr(self._thread, "number", 0)
        if not number:
            return
        self._thread.number = 0
        with self._lock:
            self._arrived_count += 1
            for wait in self._waits:
                wait.count_arrival(number)

    def await_arrivals(self, timeout_s: float) -> None:
        """Wait at most `timeout_s` for the arrival of the threads counted at the time of the call."""
        with self._lock:
            pending = self._entered_count - self._arrived_count
            if not pending:
                return
            wait = _Wait(self._entered_count, pending)
            self._waits.append(wait)
        wait.over.acquire(timeout=timeout_s)
        with self._lock:
            self._waits.remove(wait)


class _Wait:
    """A wait for the threads with numbers up to `newest`; `pending` of them have not arrived."""

    __slots__ = ("newest", "over", "pending")

    def __init__(self, newest: int, pending: int) -> None:
        self.newest = newest
        self.pending = pending
        self.over = threading.Lock()  # an Event costs ten times as much
        self.over.acquire()

    def count_arrival(self, number: int) -> None:
        if number <= self.newest:
            self.pending -= 1
            if not self.pending:
                self.over.release()
