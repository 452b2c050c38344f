"""Connections of waitress whose threads hand over less, and whose requests know when they came in (docs/adr/0025).

Works on the internals of waitress 3.0.2, hence the pin: tests/integration/test_server.py holds what is used.
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

KEEP_S = 0.02
"""How long a thread that has answered waits for the next request of the same connection."""
RECEIVED = "useradd.received"
"""Key of the WSGI environment: time.monotonic() when the request had come in whole and began to wait for a thread."""


class Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress has no types
    """Notes when a request begins to wait for a thread, unless one waits for it."""

    def add_task(self, task: Any) -> None:
        task.queued_at = time.monotonic()
        if not task.is_kept:
            super().add_task(task)

    def has_idle_threads(self) -> bool:
        """Tell whether so few threads are at work that one may wait."""
        return not self.queue and 2 * self.active_count <= len(self.threads)


class _Task(WSGITask):  # type: ignore[misc]
    """Tells the service how long its request has waited, and a client that this was the last one during a stop."""

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
        """Send an answer that is there as a whole in one piece: each time a thread sends, another one takes over."""
        if self.wrote_header or not data or self.content_length != len(data) or not self.has_body:
            super().write(data)
            return
        head = self.build_response_header()
        self.wrote_header = True
        self.content_bytes_written = len(data)
        self.channel.write_soon(head + data)


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Answers 400 also to what waitress 3.0.2 stumbles over: a length of 5000 digits, an address with half a host.

    And to two ways of telling a length, or chunks in a version that has none: waitress takes the one and passes over
    the other, so that what a proxy took for a body would be the next request (RFC 9112, 6.1 and 11.2).
    """

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError(str(error)[:80]) from error
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")
        if "TRANSFER_ENCODING" in self.headers:  # of HTTP/1.1 waitress has taken it away
            raise ParsingError("Transfer-Encoding is of HTTP/1.1")


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection whose requests know when they came in.

    While there is leisure its thread waits a little for the next request: of a handover from the loop to a thread and
    back, half of all switches between threads come (docs/adr/0025).
    """

    parser_class = _Parser
    task_class = _Task
    queued_at: float
    is_kept = False
    """Whether a thread waits for the next request: the loop does not read then."""
    _is_sending = False

    def service(self) -> None:
        """Answer a request, and those that follow at once."""
        self.is_kept = True
        _at_work.channel = self
        try:
            super().service()
            while self._has_next():
                super().service()
            is_left = bool(self.requests)  # until is_kept falls nobody else adds any
        finally:
            self.is_kept = False
            _at_work.channel = None
            self.server.pull_trigger()
        if is_left:
            self.server.add_task(self)

    def _has_next(self) -> bool:
        """Read until a request is there, nobody has leisure to wait, or nothing comes; tell whether to answer one.

        Requests that came together with the last one wait until others have had their turn, as waitress has it.
        """
        if self.requests:
            return not self.server.task_dispatcher.queue
        end = time.monotonic() + KEEP_S
        while not self.requests:
            left = end - time.monotonic()
            if left <= 0 or self.needs_loop or not self.server.accepting:
                return False
            if not self.server.task_dispatcher.has_idle_threads():
                return False
            data = self._read(left)
            if not data:  # the loop finds out whether it has ended
                return False
            self.received(data)
        return True

    def _read(self, patience_s: float) -> bytes:
        client = self.socket
        try:
            poller = select.poll()
            poller.register(client, select.POLLIN)
            return bytes(client.recv(self.adj.recv_bytes)) if poller.poll(patience_s * 1000) else b""
        except (OSError, ValueError, TypeError):  # the loop has closed it, or taken it away, too
            return b""

    @property
    def needs_loop(self) -> bool:
        """Whether there is something to do that only the loop does: to send the rest, to close."""
        return bool(self.total_outbufs_len or self.close_when_flushed or self.will_close or not self.connected)

    def readable(self) -> bool:
        """Leave requests to the thread that waits for them.

        Asked last: between the two looks that thread may take over, answer and begin to wait.
        """
        return bool(super().readable() and not self.is_kept)

    def writable(self) -> bool:
        """Leave an answer to the thread that sends it: the loop would turn until that is done, 9 times a request."""
        return bool(not self._is_sending and super().writable())

    def _flush_some(self, do_close: bool = True) -> bool:
        """Send under the lock: the loop does not take it between two requests, and the next one may come just then."""
        with self.outbuf_lock:
            self._is_sending = True
            try:
                return bool(super()._flush_some(do_close))
            finally:
                self._is_sending = False


_at_work = threading.local()


def wake_unless_kept(wake: Callable[[], None]) -> Callable[[], None]:
    """Return what wakes the loop, unless it is a thread's that keeps its connection and leaves nothing to do."""

    def wake_if_needed() -> None:
        channel: Channel | None = getattr(_at_work, "channel", None)
        if channel is None or channel.needs_loop:
            wake()

    return wake_if_needed
