"""A worker process: answers requests of a socket, drains connections when it stops."""

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
from project.server.connections import Channel, Dispatcher, wake_unless_held

HARD_BODY_LIMIT = 256 * 1024
"""Body size in bytes above which waitress refuses a request, unrecorded, before the application sees it."""
BACKLOG = 1024
QUIET_S = 0.2
"""Seconds without a request that end a drain: accepted connections have sent their request by then."""


def run_worker(
    app: WSGIApplication,
    listener: socket.socket,
    threads: int,
    drain_s: float,
    stopping: Callable[[], None],
    balancer: ConnectionBalancer,
    index: int,
) -> None:
    """Serve as worker `index` until SIGTERM or SIGINT, then drain for `drain_s` seconds."""
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
        asyncore_use_poll=True,  # select() fails for file descriptors above 1023
        clear_untrusted_proxy_headers=False,  # our middleware checks them
        expose_tracebacks=False,
    )
    server.channel_class = Channel
    server.handle_accept = balancer.wrap_accept(server.handle_accept, index, server.active_channels)
    server.pull_trigger = wake_unless_held(server.pull_trigger)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop_handler(server, drain_s, stopping))
    signal.signal(signal.SIGUSR1, _exit)
    server.run()


def _stop_handler(server: Any, drain_s: float, stopping: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
    """Return a signal handler that drains: waitress alone drops queued requests (measured)."""

    def stop(number: int, frame: FrameType | None) -> None:
        for again in (signal.SIGTERM, signal.SIGINT):
            signal.signal(again, signal.SIG_IGN)
        stopping()
        threading.Thread(target=_drain, args=(server, drain_s), daemon=True).start()

    return stop


def _exit(number: int, frame: FrameType | None) -> None:
    """End the event loop: on SystemExit waitress shuts its threads down."""
    raise SystemExit


def _drain(server: Any, drain_s: float) -> None:
    """Stop listening, answer accepted requests for `drain_s` seconds, then end the loop.

    Uses internals of waitress 3.0.2, hence the pin; a test covers them.
    """

    def stop_listening() -> None:
        del server.handle_accept  # no balancing any more
        for _ in range(BACKLOG):  # connections that the kernel has already accepted
            server.handle_accept()
        server.del_channel()
        server.socket.close()
        server.accepting = False

    server.trigger.pull_trigger(stop_listening)  # runs in the loop's thread
    now = time.monotonic()
    end, quiet_since = now + drain_s, now
    while now < end and now - quiet_since < QUIET_S:
        time.sleep(0.02)
        now = time.monotonic()
        quiet_since = now if _is_busy(server) else quiet_since
    for channel in list(server.active_channels.values()):
        _disconnect(channel)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


def _disconnect(channel: Any) -> None:
    """Wake the thread that waits for a slow client: waitress would wait 5 s more."""
    with channel.outbuf_lock:
        channel.connected = False
        channel.outbuf_lock.notify()


def _is_busy(server: Any) -> bool:
    channels = list(server.active_channels.values())
    return bool(server.task_dispatcher.queue) or any(c.requests or c.total_outbufs_len for c in channels)
