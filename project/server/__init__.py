"""Serves with waitress: several processes behind one socket, the dead ones replaced, nothing accepted left unanswered.

The supervisor binds the socket and forks. It has one thread and no connection, so that forking is safe at any time.
"""

import ctypes
import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from wsgiref.types import WSGIApplication

from project.server.balancing import ConnectionBalancer
from project.server.connections import RECEIVED
from project.server.supervisor import TRY_AGAIN_LATER, Supervisor
from project.server.worker import BACKLOG, HARD_BODY_LIMIT, answer

__all__ = ["HARD_BODY_LIMIT", "RECEIVED", "STALLED_S", "STOP_S", "TRY_AGAIN_LATER", "serve"]

log = logging.getLogger(__name__)

DRAIN_S, STOP_S = 2.0, 3.0
"""Seconds beyond the deadline of a request after which a worker waits for its clients no longer, and after which it is
killed (promise P11)."""
_M_ARENA_MAX = -8
"""Of mallopt(3)."""
SD_LISTEN_FDS_START = 3
"""Where a socket lies that systemd hands over to the process LISTEN_PID (sd_listen_fds(3))."""
STALLED_S = 120
"""How long a client may take nothing of what it has asked for. Waitress itself never ends a request that runs: without
this, two clients that fall asleep over a download would keep everybody else from downloading (Linux: tcp(7))."""


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
    _share_one_heap()
    listener, shares = _listen(host, port), ConnectionBalancer(workers)

    def work(number: int) -> None:
        itself = {"worker": number, "pid": os.getpid()}
        start(number)
        log.info("worker started", extra=itself)
        answer(app, listener, threads, deadline_s + DRAIN_S, stopping, shares, number)
        log.info("worker stopped", extra=itself)
        stop()
        os._exit(0)  # Python would take itself apart first: 0.2 s of a processor (measured), and the stop waits for it

    supervisor = Supervisor(work, workers, listener, deadline_s + STOP_S)
    if prepare:
        supervisor.prepare(prepare)
    supervisor.start()
    shown = f"[{host}]" if ":" in host else host
    print(greeting(f"http://{shown}:{listener.getsockname()[1]}"), flush=True)
    sys.exit(supervisor.watch())


def _share_one_heap() -> None:
    """Let all threads of a worker take memory from one place, where glibc is (docs/adr/0014).

    It would give each thread its own, and each that has sent a file keeps some megabytes. Threads hardly wait for each
    other there: mostly the interpreter's lock lets one at a time ask for memory anyway.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


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
