"""Waitress connections with time limits and fewer thread switches (docs/adr/0025).

Uses internals of waitress 3.0.2, hence the pin; tests/integration/test_server.py covers them.
"""

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from wsgiref.types import WSGIEnvironment

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, Task, ThreadedTaskDispatcher, WSGITask

from project.server.parser import Parser

HOLD_S = 0.02
"""How long a thread waits for the next request of the same connection after a response."""
IDLE_S = 15
"""How long a connection may wait for its next request."""
RECEIVE_S = 20
"""How long head and body of a request may take together."""
LINGER_S, LINGER_BYTES = 2, 8 * 2**20
"""How long, and how much, is read and discarded after a refusal.

Closing a socket with unread data resets it, and a client that still sends would not see the answer."""
GRACE_S = 1
"""How long a connection may wait for its client before it can be closed to make room."""
_CHUNK = 65536
RECEIVED = "useradd.received"
"""WSGI environment key: time.monotonic() when the request was complete and began to wait for a thread."""


class Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress has no types
    """A thread pool that times queued requests and does not queue those of held connections."""

    def add_task(self, task: Any) -> None:
        task.queued_at = time.monotonic()
        if not task.is_held:
            super().add_task(task)

    def has_idle_threads(self) -> bool:
        """Return whether enough threads are idle for one to hold its connection."""
        return not self.queue and 2 * self.active_count <= len(self.threads)


class _OneWrite(Task):  # type: ignore[misc]
    """Sends a complete response with one call: each send() may switch threads."""

    wrote_header: bool

    def write(self, data: bytes) -> None:
        if self.wrote_header or not data or self.content_length != len(data) or not self.has_body:
            super().write(data)
            return
        head = self.build_response_header()
        self.wrote_header = True
        self.content_bytes_written = len(data)
        self.channel.write_soon(head + data)


class _ErrorTask(_OneWrite, ErrorTask):  # type: ignore[misc]
    """The answer to a request that the parser refused."""


class _Task(_OneWrite, WSGITask):  # type: ignore[misc]
    """A request that passes on its timestamp, and closes its connection during a stop."""

    def get_environment(self) -> WSGIEnvironment:
        environ: WSGIEnvironment = super().get_environment()
        environ[RECEIVED] = self.channel.queued_at
        return environ

    def build_response_header(self) -> bytes:
        if not self.channel.server.accepting:
            self.request.headers["CONNECTION"] = "close"  # as if the client had asked for it
        header: bytes = super().build_response_header()
        return header


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection whose thread waits briefly for the next request if enough threads are idle.

    Passing connections between event loop and threads causes half of all thread switches (docs/adr/0025).
    """

    parser_class = Parser
    task_class = _Task
    error_task_class = _ErrorTask
    request: Parser | None
    requests: list[Parser]
    close_when_flushed: bool
    will_close: bool
    queued_at: float
    is_held = False
    """Whether a thread waits for the next request: then the event loop does not read."""
    is_lingering = False
    """Whether the last response is sent and the rest of a refused request is being discarded."""
    _is_refused = False
    _is_sending = False
    _left_to_discard = LINGER_BYTES

    def __init__(self, *args: Any, **options: Any) -> None:
        self._waiting_since = time.monotonic()
        """Since when the client has owed us its next request, or the rest of it."""
        super().__init__(*args, **options)

    def received(self, data: bytes) -> bool:
        """Parse data of the client; the time of a request counts from its first byte."""
        request = self.request
        is_parsed: bool = super().received(data)
        if self.request is not None and self.request is not request:
            self._waiting_since = time.monotonic()
        return is_parsed

    def service(self) -> None:
        """Answer a request and those that follow within HOLD_S."""
        self.is_held = True
        _current.channel = self
        try:
            self._answer()
            while self._has_next():
                self._answer()
            is_left = bool(self.requests)  # while is_held, no other thread adds any
        finally:
            self._waiting_since = time.monotonic()
            self.is_held = False
            _current.channel = None
            self.server.pull_trigger()
        if is_left:
            self.server.add_task(self)

    def _answer(self) -> None:
        self._is_refused = self.requests[0].error is not None
        super().service()

    def _has_next(self) -> bool:
        """Wait up to HOLD_S for a request while enough threads are idle; return if there is one.

        Pipelined requests yield to queued requests of other connections, as in waitress.
        """
        if self.requests:
            return not self.server.task_dispatcher.queue
        end = time.monotonic() + HOLD_S
        while not self.requests:
            left = end - time.monotonic()
            if left <= 0 or self.needs_loop or not self.server.accepting:
                return False
            if not self.server.task_dispatcher.has_idle_threads():
                return False
            data = self._read(left)
            if not data:  # the loop finds out whether the client has closed it
                return False
            self.received(data)
        return True

    def _read(self, timeout_s: float) -> bytes:
        client = self.socket
        try:
            poller = select.poll()
            poller.register(client, select.POLLIN)
            return bytes(client.recv(self.adj.recv_bytes)) if poller.poll(timeout_s * 1000) else b""
        except (OSError, ValueError, TypeError):  # the loop has closed or removed the socket
            return b""

    @property
    def is_waiting(self) -> bool:
        """Whether only the client can continue, by sending."""
        return not (self.requests or self.is_held or self.total_outbufs_len)

    def can_be_closed(self) -> bool:
        """Return whether this connection may be closed to make room."""
        return self.is_waiting and (self.is_lingering or time.monotonic() - self._waiting_since > GRACE_S)

    def closing_order(self) -> tuple[bool, float]:
        """Return the sort key when room is made: idle ones, then the oldest incomplete request."""
        return self.request is not None and not self.is_lingering, self._waiting_since

    def enforce_time_limits(self, now: float) -> None:
        """Refuse a request that does not arrive, close an idle connection. Runs in the event loop.

        A client that does not read is disconnected by TCP_USER_TIMEOUT.
        """
        with self.requests_lock:
            if not self.is_waiting or self.close_when_flushed or self.will_close:
                return
            request = None if self.is_lingering else self.request
            limit = LINGER_S if self.is_lingering else IDLE_S if request is None else RECEIVE_S
            if now - self._waiting_since <= limit:
                return
            if request is None:
                self.will_close = True
                return
            request.refuse_late()
            self.requests.append(request)
            self.request = None
        self.server.add_task(self)

    def handle_read(self) -> None:
        """Read a part of a request, or of what is left of a refused one."""
        if not self.is_lingering:
            super().handle_read()
            return
        with suppress(OSError):
            self._left_to_discard -= len(self.recv(_CHUNK))
            if self._left_to_discard > 0:
                return
        self.handle_close()

    def handle_write(self) -> None:
        """Send, then close if this was the last response; linger if its request was refused."""
        if not (self._is_refused and self.close_when_flushed):
            super().handle_write()
            return
        self._flush_exception(self._flush_some)
        if self.will_close:
            self.handle_close()
        elif self.connected and not self.total_outbufs_len:
            self._linger()

    def _linger(self) -> None:
        self.is_lingering = True  # first: the thread must not read any more
        self.close_when_flushed = False
        self._waiting_since = time.monotonic()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.handle_close()

    @property
    def needs_loop(self) -> bool:
        """Whether the event loop must act: send remaining data or close."""
        is_closing = self.close_when_flushed or self.will_close or not self.connected
        return bool(self.total_outbufs_len or is_closing or self.is_lingering)  # the last one is set before others end

    def readable(self) -> bool:
        """Leave reading to the thread that holds the connection.

        Checks is_held last: a thread may answer and begin to hold the connection in between.
        """
        return bool(super().readable() and not self.is_held)

    def writable(self) -> bool:
        """Leave a response to the thread that sends it: the loop would spin, 9 times per request."""
        return bool(not self._is_sending and super().writable())

    def _flush_some(self, do_close: bool = True) -> bool:
        """Hold the output lock while sending: the event loop calls this without it.

        While no request is pending, waitress expects no other sender, but a thread may hold the connection.
        """
        with self.outbuf_lock:
            self._is_sending = True
            try:
                is_sent = bool(super()._flush_some(do_close))
            finally:
                self._is_sending = False
            if is_sent and self.request is None:  # else it was 100 Continue
                self._waiting_since = time.monotonic()
            return is_sent


_current = threading.local()


def wake_unless_held(wake: Callable[[], None]) -> Callable[[], None]:
    """Wrap the trigger of the loop to skip wake-ups by threads that hold their connection."""

    def wake_if_needed() -> None:
        channel: Channel | None = getattr(_current, "channel", None)
        if channel is None or channel.needs_loop:
            wake()

    return wake_if_needed
