"""Waitress connections with fewer thread switches and timed requests (docs/adr/0025).

Uses internals of waitress 3.0.2, hence the pin; tests/integration/test_server.py covers them.
"""

import select
import threading
import time
from collections.abc import Callable
from typing import Any
from wsgiref.types import WSGIEnvironment

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ThreadedTaskDispatcher, WSGITask

HOLD_S = 0.02
"""How long a thread waits for the next request of the same connection after a response."""
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


class _Task(WSGITask):  # type: ignore[misc]
    """WSGI task that adds RECEIVED to the environ and ends keep-alive during shutdown."""

    wrote_header: bool

    def get_environment(self) -> WSGIEnvironment:
        environ: WSGIEnvironment = super().get_environment()
        environ[RECEIVED] = self.channel.queued_at
        return environ

    def build_response_header(self) -> bytes:
        if not self.channel.server.accepting:
            self.request.headers["CONNECTION"] = "close"  # as if the client had asked for it
        header: bytes = super().build_response_header()
        return header

    def write(self, data: bytes) -> None:
        """Send a complete response with one call: each send() may switch threads."""
        if self.wrote_header or not data or self.content_length != len(data) or not self.has_body:
            super().write(data)
            return
        head = self.build_response_header()
        self.wrote_header = True
        self.content_bytes_written = len(data)
        self.channel.write_soon(head + data)


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Answers 400 where waitress 3.0.2 crashes or allows request smuggling.

    Waitress accepts Content-Length together with Transfer-Encoding, and ignores Transfer-Encoding outside HTTP/1.1: it
    would take what a proxy considers a body as the next request (RFC 9112, 6.1 and 11.2).
    """

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError(str(error)[:80]) from error
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")
        if "TRANSFER_ENCODING" in self.headers:  # waitress has removed it for HTTP/1.1
            raise ParsingError("Transfer-Encoding is of HTTP/1.1")


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that its thread holds briefly after a response while others are idle.

    Passing requests between event loop and threads causes half of all thread switches (docs/adr/0025).
    """

    parser_class = _Parser
    task_class = _Task
    queued_at: float
    is_held = False
    """Whether a thread waits for the next request: then the event loop does not read."""
    _is_sending = False

    def service(self) -> None:
        """Answer a request and those that follow within HOLD_S."""
        self.is_held = True
        _current.channel = self
        try:
            super().service()
            while self._has_next():
                super().service()
            is_left = bool(self.requests)  # while is_held, no other thread adds any
        finally:
            self.is_held = False
            _current.channel = None
            self.server.pull_trigger()
        if is_left:
            self.server.add_task(self)

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
    def needs_loop(self) -> bool:
        """Whether the event loop must act: send remaining data or close."""
        return bool(self.total_outbufs_len or self.close_when_flushed or self.will_close or not self.connected)

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
                return bool(super()._flush_some(do_close))
            finally:
                self._is_sending = False


_current = threading.local()


def wake_unless_held(wake: Callable[[], None]) -> Callable[[], None]:
    """Wrap the trigger of the loop to skip wake-ups by threads that hold their connection."""

    def wake_if_needed() -> None:
        channel: Channel | None = getattr(_current, "channel", None)
        if channel is None or channel.needs_loop:
            wake()

    return wake_if_needed
