"""HTTP server: waitress in several worker processes on one socket.

The supervisor binds the socket and forks the workers. The supervisor has one thread and no database connection,
so that it can fork safely at any time.
"""

import ctypes
import errno
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from wsgiref.types import WSGIApplication

from project.server.balancing import ConnectionBalancer
from project.server.connections import RECEIVED, DescribeRefusal, plain_refusal
from project.server.event_loop import BACKLOG
from project.server.output import NonBlockingStream
from project.server.parser import BODY_ALLOWANCE
from project.server.supervisor import Supervisor
from project.server.worker import HARD_BODY_LIMIT, run_worker

__all__ = ["BODY_ALLOWANCE", "HARD_BODY_LIMIT", "RECEIVED", "STALLED_S", "STOP_S", "serve"]

log = logging.getLogger(__name__)

FINISH_S, STOP_S = 2.0, 3.0
"""Seconds added to the request deadline: so long after a stop signal a worker closes its connections, and is killed."""
_M_ARENA_MAX = -8
"""The parameter M_ARENA_MAX of mallopt(3): maximum number of malloc arenas."""
GC_OBJECTS = 20_000
"""Number of new objects after which the garbage collector runs (threshold 0 of gc.set_threshold())."""
SD_LISTEN_FDS_START = 3
"""File descriptor of the socket that systemd passes to the process LISTEN_PID (sd_listen_fds(3))."""
_HOST_REMEDY = "HOST must be an address of this machine, such as 127.0.0.1, or :: for all of them"
STALLED_S = 120
"""Seconds after which a client that does not read its response is disconnected (TCP_USER_TIMEOUT, tcp(7)), where the
system supports that. Waitress has no such limit, and two stalled downloads would block other downloads."""


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
    begin_stop: Callable[[], None] = lambda: None,
    stop: Callable[[], None] = lambda: None,
    body_limits: Mapping[str, int] = MappingProxyType({}),
    describe_refusal: DescribeRefusal = plain_refusal,
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP. Raises SystemExit, with 0 only after a clean stop.

    `app` must respond within `deadline_s` seconds. Clients that have not read their response `deadline_s` + FINISH_S
    after the signal are disconnected. `greeting` takes the URL and returns the text to print once the workers are
    started, or "". `prepare`, if given, runs first, in a child process (see Supervisor.prepare()). In each worker,
    `start(index)` runs before the first request, `begin_stop` when a stop begins, and `stop` after the last response. A
    worker that replaces another one has the same index. `body_limits` maps paths to maximum body sizes in bytes, which
    the application enforces: the server refuses bodies that exceed them by BODY_ALLOWANCE or more, and at other paths
    those of HARD_BODY_LIMIT or more. `describe_refusal` returns the responses to requests that the server refuses
    before the application sees them.
    """
    _use_one_malloc_arena()
    listener, balancer = _listen(host, port), ConnectionBalancer(workers)

    def work(index: int) -> None:
        worker = {"worker": index, "pid": os.getpid()}
        start(index)
        _relax_garbage_collection()
        log.info("worker started", extra=worker)
        run_worker(
            app,
            listener,
            threads,
            deadline_s + FINISH_S,
            begin_stop,
            balancer,
            index,
            supervisor.heartbeats,
            supervisor.stop_signals,
            body_limits,
            describe_refusal,
        )
        log.info("worker stopped", extra=worker)
        stop()
        os._exit(0)  # skips the finalization of the interpreter, which takes 0.2 s of CPU (measured)

    supervisor = Supervisor(work, workers, listener, deadline_s + STOP_S)
    if prepare:
        supervisor.prepare(prepare)
    supervisor.start()
    url_host = f"[{host}]" if ":" in host else host
    text = greeting(f"http://{url_host}:{listener.getsockname()[1]}")
    if text and sys.stdout is not None:
        NonBlockingStream(sys.stdout).write(text + "\n")
    sys.exit(supervisor.watch())


def _relax_garbage_collection() -> None:
    """Exempt the objects of the start from garbage collection; collect new objects less often.

    Requests leave few reference cycles. With the default threshold of 700 new objects, the collector took a twentieth
    of a worker's time (measured).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)


def _use_one_malloc_arena() -> None:
    """Make glibc use one malloc arena for all threads of a worker (docs/adr/0014).

    Otherwise each thread that has sent a file keeps some megabytes in its own arena. One arena causes little
    contention, because the GIL serializes most allocations anyway.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _listen(host: str, port: int) -> socket.socket:
    """Return the listening socket from systemd, or else a new one. The host `::` includes IPv4.

    Exits with a message if the service cannot listen.
    """
    try:
        if os.environ.get("LISTEN_PID") == str(os.getpid()):
            return _with_user_timeout(socket.socket(fileno=SD_LISTEN_FDS_START))
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        is_dual = address[0] == "::" and socket.has_dualstack_ipv6()
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=is_dual)
        return _with_user_timeout(listener)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA cannot encode
        sys.exit(f"useradd cannot listen on {host}:{port}: {_listen_problem(error)}")


def _listen_problem(error: OSError | UnicodeError) -> str:
    """Return the reason why the service cannot listen, and a remedy."""
    if isinstance(error, UnicodeError | socket.gaierror):
        return f"no such host name. {_HOST_REMEDY}"
    remedies = {errno.EADDRNOTAVAIL: _HOST_REMEDY, errno.EACCES: "Ports below 1024 need privileges: try PORT=8001"}
    return f"{os.strerror(error.errno or 0)}. {remedies.get(error.errno or 0, 'Choose another port: PORT=8001')}"


def _with_user_timeout(listener: socket.socket) -> socket.socket:
    """Set TCP_USER_TIMEOUT if supported (accepted sockets inherit it); return the socket."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_S * 1000)
    return listener
