"""Serves with waitress: several processes behind one socket, the dead ones replaced, nothing accepted left unanswered.

The supervisor binds the socket and forks. It has one thread and no connection, so that forking is safe at any time.
"""

import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any
from wsgiref.types import WSGIApplication, WSGIEnvironment

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import create_server
from waitress.task import ThreadedTaskDispatcher, WSGITask

log = logging.getLogger(__name__)

HARD_BODY_LIMIT = 256 * 1024
"""Bytes beyond which waitress refuses a request before the service sees it: nothing of it is recorded."""
DRAIN_S, STOP_S = 2.0, 3.0
"""Seconds beyond the deadline of a request after which a worker waits for its clients no longer, and after which it is
killed (promise P11)."""
SD_LISTEN_FDS_START = 3
"""Where a socket lies that systemd hands over to the process LISTEN_PID (sd_listen_fds(3))."""
QUIET_S = 0.2
"""Seconds without any request that end a stop: what was just let in has sent its request by then."""
BACKLOG = 1024
STALLED_S = 120
"""How long a client may take nothing of what it has asked for. Waitress itself never ends a request that runs: without
this, two clients that fall asleep over a download would keep everybody else from downloading (Linux: tcp(7))."""
KEEP_S = 0.02
"""How long a thread that has answered waits for the next request of the same connection."""
RECEIVED = "useradd.received"
"""Key of the WSGI environment: time.monotonic() when the request had come in whole and began to wait for a thread."""
_WATCHED = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
_TOO_YOUNG_S = 1.0
PREPARE_S = 10
"""Seconds that the start waits for the preparation."""
AWAY = 75
"""Exit status of a preparation that must be tried again (EX_TEMPFAIL of sysexits.h)."""


def serve(
    app: WSGIApplication,
    *,
    host: str,
    port: int,
    threads: int,
    workers: int,
    deadline_s: float,
    greeting: Callable[[str], str],
    prepare: Callable[[], None] | None = None,
    start: Callable[[int], None] = lambda _: None,
    stopping: Callable[[], None] = lambda: None,
    stop: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then exit: SystemExit 0 when everything accepted was answered.

    `app` answers each request within `deadline_s`; who has not read his answer 2 s after that is left. `prepare` runs
    first, in a process of its own; when it exits with AWAY the service starts all the same and it is tried again beside
    it. In each worker `start` runs before the first request, told the worker's number, which its replacement gets, too;
    `stopping` runs when the stop begins and `stop` after the last answer. Raises SystemExit with a clear message when
    the port is taken.
    """
    listener = _listen(host, port)

    def work(number: int) -> None:
        itself = {"worker": number, "pid": os.getpid()}
        start(number)
        log.info("worker started", extra=itself)
        _serve_one(app, listener, threads, deadline_s + DRAIN_S, stopping)
        log.info("worker stopped", extra=itself)
        stop()
        os._exit(0)  # Python would take itself apart first: 0.2 s of a processor (measured), and the stop waits for it

    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    supervisor = _Supervisor(work, workers, listener, deadline_s + STOP_S)
    if prepare:
        supervisor.prepare(prepare)
    supervisor.start()
    shown = f"[{host}]" if ":" in host else host
    print(greeting(f"http://{shown}:{listener.getsockname()[1]}"), flush=True)
    sys.exit(supervisor.watch())


def _listen(host: str, port: int) -> socket.socket:
    """Return the socket that systemd hands over, else a new one.

    What systemd holds stays open while the service restarts: clients wait instead of being refused.
    """
    try:
        if os.environ.get("LISTEN_PID") == str(os.getpid()):
            return _patient(socket.socket(fileno=SD_LISTEN_FDS_START))
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return _patient(socket.create_server(address[:2], family=family, backlog=BACKLOG))
    except OSError as error:
        sys.exit(f"useradd cannot listen on {host}:{port}: {error.strerror}. Choose another port: PORT=8001")


def _patient(listener: socket.socket) -> socket.socket:
    """Let connections end when their client takes nothing for long; they inherit it from the listening socket."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_S * 1000)
    return listener


class _Supervisor:
    """The parent of all workers."""

    def __init__(self, work: Callable[[int], None], count: int, listener: socket.socket, stop_s: float) -> None:
        self._work = work
        self._count = count
        self._listener = listener
        self._stop_s = stop_s
        self._workers: dict[int, tuple[int, float]] = {}
        """Process id -> its number, and when it was born, by time.monotonic()."""
        self._preparing: tuple[int, Callable[[], None]] | None = None
        self._lifeline = os.pipe()

    def prepare(self, prepare: Callable[[], None]) -> None:
        """Run `prepare` in a child; exit with it unless it takes long or only has to be tried again."""
        pid, end = self._fork(prepare), time.monotonic() + PREPARE_S
        while time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._judge(os.waitstatus_to_exitcode(status), prepare)
                return
            time.sleep(0.01)
        self._preparing = (pid, prepare)

    def _judge(self, code: int, prepare: Callable[[], None]) -> None:
        self._preparing = None
        if code == AWAY:
            self._preparing = (self._fork(lambda: _later(prepare)), prepare)
        elif code != 0:
            sys.exit(code if code > 0 else 1)

    def start(self) -> None:
        """Start the workers."""
        for number in range(self._count):
            self._hire(number)

    def _hire(self, number: int) -> None:
        self._workers[self._fork(partial(self._work, number))] = (number, time.monotonic())

    def watch(self) -> int:
        """Replace workers that die until a signal says stop; return the exit status of it all."""
        while signal.sigwait(_WATCHED) == signal.SIGCHLD:
            for pid, status in _reap():
                self._replace(pid, status)
        return self._stop()

    def _replace(self, pid: int, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        if self._preparing and pid == self._preparing[0]:
            if code not in {0, AWAY}:
                log.error("the preparation failed and is tried again", extra={"exit_status": code})
            self._judge(AWAY if code else 0, self._preparing[1])
        elif pid in self._workers:
            number, born = self._workers.pop(pid)
            log.error("a worker died and is replaced", extra={"worker": number, "pid": pid, "exit_status": code})
            if time.monotonic() - born < _TOO_YOUNG_S:
                time.sleep(_TOO_YOUNG_S)  # whatever kills it at birth must not keep the machine busy
            self._hire(number)

    def _stop(self) -> int:
        """Ask all children to end, wait for them, and end those that do not."""
        self._listener.close()
        left = {*self._workers, *([self._preparing[0]] if self._preparing else [])}
        for pid in left:
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + self._stop_s
        statuses = []
        while left and time.monotonic() < end:
            for pid, status in _reap():
                left.discard(pid)
                statuses += [status] if pid in self._workers else []
            time.sleep(0.02)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        log.info("stopped")
        return 0 if not left and not any(statuses) else 1

    def _fork(self, task: Callable[[], None]) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            os.close(self._lifeline[1])
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            threading.Thread(target=_follow, args=(self._lifeline[0],), daemon=True).start()
            task()
        except SystemExit:
            raise
        except BaseException:
            log.exception("a worker fails")
            sys.exit(1)
        sys.exit(0)


def _later(task: Callable[[], None]) -> None:
    time.sleep(_TOO_YOUNG_S)
    task()


def _reap() -> list[tuple[int, int]]:
    """Return process id and status of every child that has died; one SIGCHLD may stand for several."""
    dead = []
    try:
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            dead.append(found)
    except ChildProcessError:
        pass
    return dead


def _follow(lifeline: int) -> None:
    """Stop when the supervisor is gone, however it went: its end of the pipe closes."""
    os.read(lifeline, 1)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


# --- One worker -----------------------------------------------------------------------------------------------


class _Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress has no types
    """Notes when a request begins to wait for a thread, unless one waits for it."""

    def add_task(self, task: Any) -> None:
        task.queued_at = time.monotonic()
        if not task.is_kept:
            super().add_task(task)

    def has_leisure(self) -> bool:
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

    And to two ways of telling a length: waitress takes the chunks and keeps the connection, so that what a proxy took
    for the rest of a body would be the next request (RFC 9112, 6.1 and 11.2).
    """

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError(str(error)[:80]) from error
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")


class _Channel(HTTPChannel):  # type: ignore[misc]
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
        finally:
            self.is_kept = False
            _at_work.channel = None
            self.server.pull_trigger()

    def _has_next(self) -> bool:
        """Read until a request is there, nobody has leisure to wait, or nothing comes; tell whether one is there."""
        end = time.monotonic() + KEEP_S
        while not self.requests:
            left = end - time.monotonic()
            if left <= 0 or self.needs_loop or not self.server.accepting:
                return False
            if not self.server.task_dispatcher.has_leisure():
                return False
            data = self._read(left)
            if not data:  # the loop finds out whether it has ended
                return False
            self.received(data)
        return True

    def _read(self, patience_s: float) -> bytes:
        try:
            poller = select.poll()
            poller.register(self.socket, select.POLLIN)
            return bytes(self.socket.recv(self.adj.recv_bytes)) if poller.poll(patience_s * 1000) else b""
        except (OSError, ValueError):  # the loop has closed it
            return b""

    @property
    def needs_loop(self) -> bool:
        """Whether there is something to do that only the loop does: to send the rest, to close."""
        return bool(self.total_outbufs_len or self.close_when_flushed or self.will_close or not self.connected)

    def readable(self) -> bool:
        """Leave requests to the thread that waits for them."""
        return bool(not self.is_kept and super().readable())

    def writable(self) -> bool:
        """Leave an answer to the thread that sends it: the loop would turn until that is done, 9 times a request."""
        return bool(not self._is_sending and super().writable())

    def _flush_some(self, do_close: bool = True) -> bool:
        self._is_sending = True
        try:
            return bool(super()._flush_some(do_close))
        finally:
            self._is_sending = False


_at_work = threading.local()


def _waker(wake: Callable[[], None]) -> Callable[[], None]:
    """Return what wakes the loop, unless it is a thread's that keeps its connection and leaves nothing to do."""

    def wake_if_needed() -> None:
        channel: _Channel | None = getattr(_at_work, "channel", None)
        if channel is None or channel.needs_loop:
            wake()

    return wake_if_needed


def _serve_one(
    app: WSGIApplication, listener: socket.socket, threads: int, drain_s: float, stopping: Callable[[], None]
) -> None:
    dispatcher = _Dispatcher()
    dispatcher.set_thread_count(threads)
    server = create_server(
        app,
        sockets=[listener],
        _dispatcher=dispatcher,
        threads=threads,
        ident=None,
        backlog=BACKLOG,
        connection_limit=500,
        channel_timeout=15,
        cleanup_interval=5,
        max_request_body_size=HARD_BODY_LIMIT,
        max_request_header_size=16 * 1024,
        outbuf_high_watermark=1024 * 1024,
        asyncore_use_poll=True,  # select() dies of file descriptors beyond 1023
        clear_untrusted_proxy_headers=False,  # our own middleware judges them
        expose_tracebacks=False,
    )
    server.channel_class = _Channel
    server.pull_trigger = _waker(server.pull_trigger)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopper(server, drain_s, stopping))
    signal.signal(signal.SIGUSR1, _leave)
    server.run()


def _stopper(server: Any, drain_s: float, stopping: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
    """Return a signal handler that lets waitress finish. Waitress itself drops what is queued (measured)."""

    def stop(number: int, frame: FrameType | None) -> None:
        for again in (signal.SIGTERM, signal.SIGINT):
            signal.signal(again, signal.SIG_IGN)
        stopping()
        threading.Thread(target=_drain, args=(server, drain_s), daemon=True).start()

    return stop


def _leave(number: int, frame: FrameType | None) -> None:
    """End the loop: waitress takes SystemExit as the request to shut its threads down."""
    raise SystemExit


def _drain(server: Any, drain_s: float) -> None:
    """Stop listening, wait until every accepted request is answered, but not for ever, then end the loop.

    Works on the internals of waitress 3.0.2, hence the pin: a test holds it.
    """

    def stop_listening() -> None:
        for _ in range(BACKLOG):  # whom the kernel has let in already
            server.handle_accept()
        server.del_channel()
        server.socket.close()
        server.accepting = False

    server.trigger.pull_trigger(stop_listening)  # runs in the loop's own thread
    now = time.monotonic()
    end, quiet_since = now + drain_s, now
    while now < end and now - quiet_since < QUIET_S:
        time.sleep(0.02)
        now = time.monotonic()
        quiet_since = now if _is_busy(server) else quiet_since
    for channel in list(server.active_channels.values()):
        _let_go(channel)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


def _let_go(channel: Any) -> None:
    """Wake the thread that waits until a client reads on: waitress would wait for it for 5 s more."""
    with channel.outbuf_lock:
        channel.connected = False
        channel.outbuf_lock.notify()


def _is_busy(server: Any) -> bool:
    channels = list(server.active_channels.values())
    return bool(server.task_dispatcher.queue) or any(c.requests or c.total_outbufs_len for c in channels)
