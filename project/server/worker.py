"""One worker: answers requests of a listening socket, and at the end all that it has let in."""

import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any
from wsgiref.types import WSGIApplication

from waitress.server import create_server

from project.server.balancing import ConnectionBalancer
from project.server.connections import Channel, Dispatcher, wake_unless_kept

HARD_BODY_LIMIT = 256 * 1024
"""Bytes beyond which waitress refuses a request before the service sees it: nothing of it is recorded."""
BACKLOG = 1024
QUIET_S = 0.2
"""Seconds without any request that end a stop: what was just let in has sent its request by then."""


def answer(
    app: WSGIApplication,
    listener: socket.socket,
    threads: int,
    drain_s: float,
    stopping: Callable[[], None],
    shares: ConnectionBalancer,
    number: int,
) -> None:
    """Answer as worker `number` until SIGTERM or SIGINT, then what is accepted, for at most `drain_s` seconds."""
    dispatcher = Dispatcher()
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
    server.channel_class = Channel
    server.handle_accept = shares.wrap_accept(server.handle_accept, number, server.active_channels)
    server.pull_trigger = wake_unless_kept(server.pull_trigger)
    for order in (signal.SIGTERM, signal.SIGINT):
        signal.signal(order, _stopper(server, drain_s, stopping))
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
        del server.handle_accept  # no turns any more
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
