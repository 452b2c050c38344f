"""A deadline for the PostgreSQL operations of a thread.

libpq has no timeout that covers a frozen server (docs/adr/0004). With a wait callback, psycopg2 uses asynchronous
calls, so that the callback can bound connect, execute, commit and rollback.
"""

import select
import threading
import time
from contextlib import AbstractContextManager, nullcontext

import psycopg2
from psycopg2 import extensions

_thread_deadline = threading.local()

HOST_CHECK_S = 0.1
"""Interval in seconds at which a waiting thread checks whether the host of its connection was abandoned."""


class DeadlineError(psycopg2.OperationalError):
    """PostgreSQL did not answer before the deadline. psycopg2 closes the connection."""


class HostState:
    """The state of a PostgreSQL host, shared by all connections of an engine to the host."""

    __slots__ = ("host", "is_abandoned", "is_silent")

    def __init__(self, host: object = None) -> None:
        self.host = host
        """Connection options of the host; None before the first connection of the engine."""
        self.is_silent = False
        """Whether the host did not answer in time. New connections then try another host first."""
        self.is_abandoned = False
        """Whether another host has answered instead. Threads that wait for the abandoned host then get an error."""


class HostConnection(extensions.connection):
    """A connection of an engine whose URL has several hosts."""

    host_state: HostState | None = None
    """State of the host; None while connecting."""


class deadline:  # noqa: N801 - a context manager reads like a verb
    """A context manager that bounds the PostgreSQL operations of this thread in its block.

    The seconds count from `start`, a value of time.monotonic(), or by default from the creation of the object. Of
    nested deadlines, the earliest applies.
    """

    __slots__ = ("_at", "_outer")

    def __init__(self, seconds: float, *, start: float | None = None) -> None:
        self._at = (time.monotonic() if start is None else start) + seconds

    def __enter__(self) -> None:
        self._outer: float | None = getattr(_thread_deadline, "at", None)
        _thread_deadline.at = self._at if self._outer is None else min(self._at, self._outer)

    def __exit__(self, *_: object) -> None:
        _thread_deadline.at = self._outer


def reserve_seconds(seconds: float) -> AbstractContextManager[None]:
    """Return a context manager that makes the deadline earlier by `seconds` in its block.

    Takes at most a quarter of the remaining time. Without a deadline, it does nothing.
    """
    left = remaining_seconds()
    return nullcontext() if left is None else deadline(left - min(seconds, max(0.0, left) / 4))


def remaining_seconds() -> float | None:
    """Return the seconds until the deadline of this thread, or None if it has no deadline.

    The number is negative after the deadline.
    """
    at: float | None = getattr(_thread_deadline, "at", None)
    return None if at is None else at - time.monotonic()


def install_wait_callback() -> None:
    """Make psycopg2 respect deadlines in the whole process. Disables COPY, which is not used."""
    extensions.set_wait_callback(_wait)


def _wait(connection: extensions.connection) -> None:
    host = connection.host_state if isinstance(connection, HostConnection) else None
    while (state := connection.poll()) != extensions.POLL_OK:
        left = remaining_seconds()
        if left is not None and left <= 0:
            raise DeadlineError("PostgreSQL did not answer before the deadline")
        if host:
            if host.is_abandoned:
                raise psycopg2.OperationalError("this host does not answer, another one does")
            left = HOST_CHECK_S if left is None else min(left, HOST_CHECK_S)
        poller = select.poll()  # select() fails for file descriptors above 1023
        poller.register(connection.fileno(), select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
        poller.poll(None if left is None else max(1, left * 1000))
