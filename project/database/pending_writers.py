"""Threads that are about to write, for which a group commit waits."""

import threading


class PendingWriters:
    """A context manager that counts the threads which are in its block to prepare a write.

    A thread is no longer counted once it has called arrive() or left the block.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._began = self._arrived = 0
        self._waits: list[_Wait] = []

    def __enter__(self) -> None:
        with self._lock:
            self._began += 1
            self._thread.number = self._began

    def __exit__(self, *_: object) -> None:
        self.arrive()

    def arrive(self) -> None:
        """Stop counting this thread if it is counted, because it writes now or will not write."""
        number = getattr(self._thread, "number", 0)
        if not number:
            return
        self._thread.number = 0
        with self._lock:
            self._arrived += 1
            for wait in self._waits:
                wait.count(number)

    def await_arrivals(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` until no thread that is counted now is counted any longer."""
        with self._lock:
            pending = self._began - self._arrived
            if not pending:
                return
            wait = _Wait(self._began, pending)
            self._waits.append(wait)
        wait.over.acquire(timeout=timeout_s)
        with self._lock:
            self._waits.remove(wait)


class _Wait:
    """A wait for the first `newest` threads, of which `pending` have not arrived."""

    __slots__ = ("newest", "over", "pending")

    def __init__(self, newest: int, pending: int) -> None:
        self.newest = newest
        self.pending = pending
        self.over = threading.Lock()  # an Event costs ten times as much
        self.over.acquire()

    def count(self, number: int) -> None:
        if number <= self.newest:
            self.pending -= 1
            if not self.pending:
                self.over.release()
