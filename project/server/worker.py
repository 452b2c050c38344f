"""A worker process: serves requests of the shared socket, and finishes them at a stop."""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import FrameType
from typing import Any
from wsgiref.types import WSGIApplication

from waitress.adjustments import Adjustments

from project.server.balancing import ConnectionBalancer
from project.server.connections import DescribeRefusal, Dispatcher, wake_unless_held
from project.server.event_loop import BACKLOG, Server
from project.server.heartbeats import Heartbeats

HARD_BODY_LIMIT = 256 * 1024
"""Size in bytes from which Waitress refuses a body, except at the paths in `body_limits`; the
application neither sees nor records them."""
UNLIMITED_BYTES = 2**31
"""A buffer size that no connection reaches, so that waitress never writes to a temporary file."""
QUIET_S = 0.2
"""Seconds without a request after which a stopping worker ends: clients have sent the last requests by then."""


def run_worker(
    app: WSGIApplication,
    listener: socket.socket,
    threads: int,
    finish_s: float,
    begin_stop: Callable[[], None],
    balancer: ConnectionBalancer,
    index: int,
    heartbeats: Heartbeats,
    stop_signals: Iterable[signal.Signals],
    body_limits: Mapping[str, int],
    describe_refusal: DescribeRefusal,
) -> None:
    """Serve as worker `index` until a stop signal, then finish requests within `finish_s`.

    Calls `begin_stop` in the signal handler. Runs in the main thread.
    """
    dispatcher = Dispatcher()
    dispatcher.set_thread_count(threads)
    settings: Any = waitress_settings(listener, threads)
    settings.body_limits = body_limits
    address = (listener.family, listener.type, listener.proto, listener.getsockname())
    server: Any = Server(
        app, {}, _sock=listener, dispatcher=dispatcher, adj=settings, sockinfo=address, bind_socket=False
    )
    server.describe_refusal = describe_refusal
    server.large_bodies = set()
    server.beat = partial(heartbeats.beat, index)
    server.handle_accept = balancer.wrap_accept(server.handle_accept, index, server.active_channels)
    server.pull_trigger = wake_unless_held(server.pull_trigger)
    stop = _stop_handler(server, finish_s, begin_stop, stop_signals)
    for signum in stop_signals:
        signal.signal(signum, stop)
    server.run()


def waitress_settings(listener: socket.socket, threads: int) -> Adjustments:
    """Return the settings of waitress for a worker with `threads` threads."""
    return Adjustments(
        sockets=[listener],
        threads=threads,
        ident=None,
        backlog=BACKLOG,
        max_request_body_size=HARD_BODY_LIMIT,
        max_request_header_size=16 * 1024,
        outbuf_high_watermark=1024 * 1024,
        outbuf_overflow=UNLIMITED_BYTES,  # a temporary file: its disk may freeze, and the event loop with it
        inbuf_overflow=UNLIMITED_BYTES,
        asyncore_use_poll=True,  # select() fails for file descriptors above 1023
        clear_untrusted_proxy_headers=False,  # TrustedProxyMiddleware checks them
        expose_tracebacks=False,
    )


def _stop_handler(
    server: Server, finish_s: float, begin_stop: Callable[[], None], stop_signals: Iterable[signal.Signals]
) -> Callable[[int, FrameType | None], None]:
    """Return a signal handler that finishes requests, because waitress would drop queued ones."""

    def stop(signum: int, frame: FrameType | None) -> None:
        for stop_signal in stop_signals:
            signal.signal(stop_signal, _ignore)  # with SIG_IGN, the event loop fails if a signal is pending
        signal.signal(signal.SIGUSR1, _exit)
        begin_stop()
        threading.Thread(target=_finish, args=(server, finish_s), daemon=True).start()

    return stop


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Handle further stop signals: do nothing."""


def _exit(signum: int, frame: FrameType | None) -> None:
    """Handle SIGUSR1: raise SystemExit, which makes waitress end its event loop and threads."""
    raise SystemExit


def _finish(server: Server, finish_s: float) -> None:
    """Stop listening, finish accepted requests in at most `finish_s`, end the event loop.

    Ends early after QUIET_S without a request. Disconnects the remaining clients. Uses internals of waitress 3.0.2, so
    its version is pinned; a test covers them.
    """

    server.trigger.pull_trigger(server.stop_listening)  # runs in the loop's thread
    now = time.monotonic()
    end, quiet_since = now + finish_s, now
    while now < end and now - quiet_since < QUIET_S:
        time.sleep(0.02)
        now = time.monotonic()
        quiet_since = now if _is_busy(server) else quiet_since
    for channel in list(server.active_channels.values()):
        _disconnect(channel)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


def _disconnect(channel: Any) -> None:
    """Disconnect; wake a thread that waits for a slow client: waitress would wait 5 s for it."""
    with channel.outbuf_lock:
        channel.connected = False
        channel.outbuf_lock.notify()


def _is_busy(server: Server) -> bool:
    channels = list(server.active_channels.values())
    return bool(server.task_dispatcher.queue) or any(
        channel.requests or channel.total_outbufs_len or channel.is_lingering for channel in channels
    )
