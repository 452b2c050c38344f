"""Waitress connections with time limits and fewer thread switches (docs/adr/0025).

Uses internals of waitress 3.0.2, so its version is pinned; tests/integration/test_server.py covers them.
"""

import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from wsgiref.types import WSGIEnvironment

from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.task import ErrorTask, Task, ThreadedTaskDispatcher, WSGITask

from project.server.parser import Parser

KEEP_ALIVE_WAIT_S = 0.02
"""Maximum seconds for which a thread waits for the next request on a connection after it has sent a response."""
IDLE_S = 15
"""Seconds after which a connection without a request is closed."""
RECEIVE_S = 20
"""Seconds within which headers and body of a request must arrive."""
LINGER_S, LINGER_BYTES = 2, 8 * 2**20
"""Seconds and number of bytes up to which input is read and discarded after a request was refused.

Closing a socket with unread data resets the connection, and a client that is still sending would not get the response.
"""
GRACE_S = 1
"""Seconds without progress by the client after which a connection may be closed to make room for other connections."""
DOWNLOAD_STALL_S = 120
"""Seconds after which a download is ended whose client leaves more than 1 MiB of buffered data unread."""
MAX_LARGE_BODIES = 8
"""Maximum number of simultaneous bodies in a worker that reach HARD_BODY_LIMIT, which some paths allow. Further bodies
are not read until another one ends, and are refused with 408 after RECEIVE_S: a hundred would fill the memory of a
container."""
_DISCARD_BYTES = 65536
DescribeRefusal = Callable[[int, Mapping[str, object], str], tuple[list[tuple[str, str]], bytes]]
"""Takes status, parameters for the error text, and Accept-Language (or "") of a refused request; returns headers and
body of the response."""
RECEIVED = "useradd.received"
"""WSGI environment key of the time by time.monotonic() at which the request was complete and queued for a thread."""


def plain_refusal(status: int, params: Mapping[str, object], language: str) -> tuple[list[tuple[str, str]], bytes]:
    """Return headers and body of a plain text response to a refused request."""
    return [("Content-Type", "text/plain; charset=utf-8")], f"{status} {dict(params)}\n".encode()


class Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress has no types
    """A thread pool, which does not queue connections that a thread holds (see Channel)."""

    def add_task(self, task: Any) -> None:
        task.queued_at = time.monotonic()
        if not task.is_held:
            super().add_task(task)

    def has_idle_threads(self) -> bool:
        """Return whether nothing is queued and at least half of the threads are idle."""
        return not self.queue and 2 * self.active_count <= len(self.threads)


class _SingleSendTask(Task):  # type: ignore[misc]
    """A task that sends headers and body with one send(): each send() may switch threads."""

    wrote_header: bool

    def write(self, data: bytes) -> None:
        if self.content_length is None:
            self.channel.is_streaming = True
        if self.wrote_header or not data or self.content_length != len(data) or not self.has_body:
            super().write(data)
            return
        head = self.build_response_header()
        self.wrote_header = True
        self.content_bytes_written = len(data)
        self.channel.write_soon(head + data)


class _ErrorTask(_SingleSendTask, ErrorTask):  # type: ignore[misc]
    """A task that responds to a request which the parser has refused."""

    def execute(self) -> None:
        """Send the response that `describe_refusal` returns, then close the connection."""
        error = self.request.error
        params = getattr(error, "params", None) or {"reason": error.body}
        if error.code == 413 and self.request.body_limit:
            params = {"limit": self.request.body_limit}
        language = self.request.headers.get("ACCEPT_LANGUAGE", "")
        headers, body = self.channel.server.describe_refusal(error.code, params, language)
        self.status = f"{error.code} {error.reason}"
        self.response_headers.extend(headers)
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Task(_SingleSendTask, WSGITask):  # type: ignore[misc]
    """A task that passes the time of queueing to the application in environ[RECEIVED].

    While the worker stops, the task closes the connection after the response.
    """

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
    """A connection: after a response, its thread waits briefly for the next request.

    The thread waits only if enough threads are idle. If it did not wait, the connection would return to the event loop,
    and another thread would take over (docs/adr/0025).
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
    """Whether a thread holds the connection, to respond or to wait for the next request. Meanwhile, the event loop does
    not read from the connection."""
    is_lingering = False
    """Whether the last response was sent and the rest of a refused request is being discarded."""
    is_streaming = False
    """Whether the response has no known length, like a download. The thread then waits for the client, and closes the
    connection after the response."""
    _is_refused = False
    _is_sending = False
    _is_paused = False
    """Whether the next pipelined request waits until the client has read the response."""
    _bytes_to_discard = LINGER_BYTES

    def __init__(self, *args: Any, **options: Any) -> None:
        self._waiting_since = time.monotonic()
        """Time by time.monotonic() since which the client is expected to send or read."""
        super().__init__(*args, **options)

    def received(self, data: bytes) -> bool:
        """Parse data from the client; return False if it is empty or the connection is closing.

        The time limit of a request counts from its first byte.
        """
        request = self.request
        is_parsed: bool = super().received(data)
        if self.request is not None and self.request is not request:
            self._waiting_since = time.monotonic()
        return is_parsed

    def service(self) -> None:
        """Respond to a request, and to further requests that arrive within KEEP_ALIVE_WAIT_S each."""
        self.is_held = True
        _thread_state.channel = self
        try:
            self._serve_one()
            while self._has_next():
                self._serve_one()
            has_more = bool(self.requests)  # while is_held is set, no other thread adds requests
        finally:
            self._waiting_since = time.monotonic()
            self.server.large_bodies.discard(self)
            self.is_held = False
            _thread_state.channel = None
            self.server.pull_trigger()
        if has_more:
            self._queue_next()

    def _queue_next(self) -> None:
        """Queue the next pipelined request of the connection once the client has read the response."""
        with self.outbuf_lock:
            self._is_paused = self.total_outbufs_len > 0
        if not self._is_paused:
            self.server.add_task(self)

    def _serve_one(self) -> None:
        self._is_refused = self.requests[0].error is not None
        super().service()

    def _has_next(self) -> bool:
        """Return whether a next request has arrived; wait for it if enough threads are idle.

        Waits up to KEEP_ALIVE_WAIT_S. Returns False for a pipelined request if other connections are queued, or
        data of the response is still buffered.
        """
        if self.requests:
            return not (self.total_outbufs_len or self.server.task_dispatcher.queue)
        end = time.monotonic() + KEEP_ALIVE_WAIT_S
        while not self.requests:
            left = end - time.monotonic()
            if left <= 0 or self.needs_event_loop or not self.server.accepting:
                return False
            if not self.server.task_dispatcher.has_idle_threads():
                return False
            data = self._read(left)
            if not data:  # the event loop finds out whether the client has closed the connection
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
        """Whether the connection waits for data from the client."""
        return not (self.requests or self.is_held or self.total_outbufs_len)

    @property
    def has_unread_response(self) -> bool:
        """Whether the connection waits until the client reads the response."""
        return self.total_outbufs_len > 0 and not self.is_held

    def can_be_closed(self) -> bool:
        """Return whether this connection may be closed to make room for other connections.

        It may if it lingers, or has waited for its client for more than GRACE_S.
        """
        is_waiting = self.is_waiting or self.has_unread_response
        return is_waiting and (self.is_lingering or time.monotonic() - self._waiting_since > GRACE_S)

    def closing_order(self) -> tuple[bool, float]:
        """Return a sort key for closing: idle connections first, then by longest wait."""
        is_in_use = self.request is not None or self.has_unread_response
        return is_in_use and not self.is_lingering, self._waiting_since

    def enforce_time_limits(self, now: float) -> None:
        """Close an idle or lingering connection, or refuse an incomplete request, if it is late.

        `now` is a time by time.monotonic().

        Does nothing while the connection is not waiting for data. Runs in the event loop. Clients that do not read are
        disconnected by TCP_USER_TIMEOUT.
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
            request.refuse_timed_out()
            self.requests.append(request)
            self.request = None
        self.server.add_task(self)

    def handle_read(self) -> None:
        """Read a part of a request, or discard the rest of a refused request.

        Refuses a request whose body has ended early. Closes the connection after LINGER_BYTES or at the end of input.
        """
        if not self.is_lingering:
            if self._has_ended_early():
                self._refuse_incomplete()
            else:
                super().handle_read()
            return
        with suppress(OSError):
            self._bytes_to_discard -= len(self.recv(_DISCARD_BYTES))
            if self._bytes_to_discard > 0:
                return
        self.handle_close()

    def _has_ended_early(self) -> bool:
        """Return whether the client has shut down its side of the connection within a body."""
        if self.request is None or not self.request.headers_finished:
            return False
        try:
            return self.socket.recv(1, socket.MSG_PEEK) == b""  # type: ignore[no-any-return]
        except OSError:
            return False

    def _refuse_incomplete(self) -> None:
        with self.requests_lock:
            request = self.request
            assert request is not None  # noqa: S101 - tells mypy: only the event loop changes it while it reads
            request.refuse_incomplete()
            self.requests.append(request)
            self.request = None
        self.server.add_task(self)

    def handle_write(self) -> None:
        """Send data. After the last response, close the connection, or linger after a refusal.

        Queues a paused pipelined request once all data is sent.
        """
        if not (self._is_refused and self.close_when_flushed):
            super().handle_write()
            if self._is_paused and not self.total_outbufs_len:
                self._is_paused = False
                self.server.add_task(self)
            return
        self._flush_exception(self._flush_some)
        if self.will_close:
            self.handle_close()
        elif self.connected and not self.total_outbufs_len:
            self._linger()

    def _linger(self) -> None:
        self.is_lingering = True  # set first, so that the thread stops reading
        self.close_when_flushed = False
        self._waiting_since = time.monotonic()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.handle_close()

    @property
    def needs_event_loop(self) -> bool:
        """Whether the event loop must send data, discard input, or close the connection."""
        is_closing = self.close_when_flushed or self.will_close or not self.connected
        return bool(
            self.total_outbufs_len or is_closing or self.is_lingering
        )  # is_lingering is set before the other conditions end

    def readable(self) -> bool:
        """Return whether the event loop may read: not while a thread holds the connection.

        Checks is_held last, because a thread may begin to hold the connection during the other checks.
        """
        return bool(super().readable() and self._may_read_more() and not self.is_held)

    def _may_read_more(self) -> bool:
        """Return whether to read more of the body.

        Adds the connection to the worker's large bodies, which are limited to MAX_LARGE_BODIES.
        """
        request, large = self.request, self.server.large_bodies
        if request is None or request.body_bytes_received < self.adj.max_request_body_size or self in large:
            return True
        if len(large) >= MAX_LARGE_BODIES:
            return False
        large.add(self)
        return True

    def del_channel(self, map: Any = None) -> None:  # noqa: A002 - waitress names it so
        """Remove this closed connection from the event loop and the large bodies."""
        self.server.large_bodies.discard(self)
        super().del_channel(map)

    def writable(self) -> bool:
        """Return whether the event loop may send: not while a thread is sending.

        Otherwise the event loop would spin, for 9 rounds per request (measured).
        """
        return bool(not self._is_sending and super().writable())

    @property
    def _is_full(self) -> bool:
        return self.connected and bool(self.total_outbufs_len > self.adj.outbuf_high_watermark)

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Wait until the client of a download has read a part of the buffer.

        Raises ClientDisconnected after DOWNLOAD_STALL_S, or if the connection is closing. There are few downloads at a
        time. Other responses are buffered completely: if threads waited for clients, some fifty clients that do not
        read would block all threads.
        """
        if not self.is_streaming:
            return
        end = time.monotonic() + DOWNLOAD_STALL_S
        with self.outbuf_lock:
            if self._is_full:  # so the event loop has not closed the connection
                self._flush_exception(self._flush_some, do_close=False)
            while self._is_full:
                self.will_close = self.will_close or time.monotonic() > end
                self.server.pull_trigger()
                if self.will_close:
                    raise ClientDisconnected
                self.outbuf_lock.wait(max(0.0, end - time.monotonic()))

    def _flush_some(self, do_close: bool = True) -> bool:
        """Send buffered data while holding the output lock; return whether any was sent.

        In waitress the event loop calls this method without the lock, because no thread sends meanwhile. Here a thread
        that holds the connection may send.
        """
        with self.outbuf_lock:
            self._is_sending = True
            try:
                is_sent = bool(super()._flush_some(do_close))
            finally:
                self._is_sending = False
            if is_sent and not self.total_outbufs_len and self.request is None:  # otherwise 100 Continue was sent
                self._waiting_since = time.monotonic()
            return is_sent


_thread_state = threading.local()


def wake_unless_held(wake: Callable[[], None]) -> Callable[[], None]:
    """Wrap the trigger of the event loop, so that threads wake the loop only if it has work."""

    def wake_if_needed() -> None:
        channel: Channel | None = getattr(_thread_state, "channel", None)
        if channel is None or channel.needs_event_loop:
            wake()

    return wake_if_needed
