"""Threads for disk operations: others can wait with a timeout and detect a stuck one.

A system call may block forever, and cannot be interrupted, if the disk is frozen for a snapshot or its network
connection is lost.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

R = TypeVar("R")

STUCK_S = 2.0
"""Seconds after which a running operation counts as stuck."""


def call_with_timeout(work: Callable[[], R], timeout_s: float) -> R:
    """Perform a disk operation in a thread and return its result.

    Exceptions of `work` propagate. Raises TimeoutError after `timeout_s`; the operation then continues in its thread.
    """
    result: Future[R] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, name="disk", daemon=True).start()
    return result.result(timeout_s)


class StuckDetector:
    """A context manager that tells other threads whether the operation in its block is stuck."""

    def __init__(self) -> None:
        self._since: float | None = None

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._since = None

    @property
    def is_stuck(self) -> bool:
        """Whether the operation has been running for more than STUCK_S."""
        since = self._since
        return since is not None and time.monotonic() - since > STUCK_S


class Operation:
    """A disk operation, which a DiskThread performs while the requesting thread may wait."""

    __slots__ = ("_unfinished", "error")

    def __init__(self) -> None:
        self._unfinished = threading.Lock()  # an Event costs ten times as much
        self._unfinished.acquire()
        self.error: Exception | None = None
        """The error that made the operation fail; None before its end and after success."""

    def finish(self) -> None:
        """Mark the operation as finished and wake the thread that waits for it."""
        if self._unfinished.locked():
            self._unfinished.release()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the operation has ended (see `error`); return False after `timeout_s`."""
        is_finished = self._unfinished.acquire(timeout=max(0.0, timeout_s))
        if is_finished:
            self._unfinished.release()
        return is_finished


T = TypeVar("T", bound=Operation)


class DiskThread(Generic[T]):
    """A thread that performs operations in order, by passing all queued ones to `work`.

    The thread starts on first use, and again after a fork or stop(). Exceptions of `work` become the `error` of the
    operations in its batch.
    """

    def __init__(self, name: str, work: Callable[[list[T]], None]) -> None:
        self._name = name
        self._work = work
        self._start_lock = threading.Lock()
        self._pid = 0
        self._queue: SimpleQueue[T | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._detector = StuckDetector()

    @property
    def is_stuck(self) -> bool:
        """Whether the current batch has been running for more than STUCK_S."""
        return self._detector.is_stuck

    def put(self, operation: T) -> None:
        """Queue an operation. If the thread cannot be started, the operation fails at once."""
        if self._pid != os.getpid():
            try:
                self._start()
            except RuntimeError as error:
                operation.error = error
                operation.finish()
                return
        self._queue.put(operation)

    def stop(self, timeout_s: float) -> None:
        """End the thread after the queued operations; wait for its end at most `timeout_s`."""
        with self._start_lock:
            if self._pid == os.getpid() and self._thread:
                self._pid = 0
                self._queue.put(None)
                self._thread.join(timeout_s)

    def _start(self) -> None:
        with self._start_lock:
            if self._pid != os.getpid():
                self._queue, self._detector = SimpleQueue(), StuckDetector()
                self._thread = threading.Thread(
                    target=self._run, args=(self._queue, self._detector), name=self._name, daemon=True
                )
                self._thread.start()
                self._pid = os.getpid()

    def _run(self, queue: "SimpleQueue[T | None]", detector: StuckDetector) -> None:
        operation = queue.get()
        while operation is not None:
            batch = [operation]
            while not queue.empty() and (operation := queue.get()) is not None:
                batch.append(operation)
            try:
                with detector:
                    self._work(batch)
            except Exception as error:
                for failed in batch:
                    failed.error = failed.error or error
            for ended in batch:
                ended.finish()
            if operation is not None:
                del batch, ended
                operation = queue.get()
