"""Serves with waitress, and stops so that everything accepted is answered."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any
from wsgiref.types import WSGIApplication

from waitress.server import create_server

log = logging.getLogger(__name__)

HARD_BODY_LIMIT = 256 * 1024
"""Bytes beyond which waitress refuses a request before the service sees it: nothing of it is recorded."""
DRAIN_S = 6.6
"""Seconds that a stop may take: the deadline of a request and 3 s more (promise P11)."""


def serve(app: WSGIApplication, *, host: str, port: int, threads: int, greeting: Callable[[str], str]) -> None:
    """Serve until SIGTERM or SIGINT. Raises SystemExit with a clear message when the port is taken."""
    try:
        server = create_server(
            app,
            host=host,
            port=port,
            threads=threads,
            ident=None,
            backlog=1024,
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
    except OSError as error:
        sys.exit(f"useradd cannot listen on {host}:{port}: {error.strerror}. Choose another port: PORT=8001")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopper(server))
    signal.signal(signal.SIGUSR1, _leave)
    shown = f"[{host}]" if ":" in host else host
    print(greeting(f"http://{shown}:{server.effective_port}"), flush=True)
    server.run()
    log.info("stopped")


def _stopper(server: Any) -> Callable[[int, FrameType | None], None]:
    """Return a signal handler that lets waitress finish. Waitress itself drops what is queued (measured)."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second Ctrl-C means it
        threading.Thread(target=_drain, args=(server,), daemon=True).start()

    return stop


def _leave(number: int, frame: FrameType | None) -> None:
    """End the loop: waitress takes SystemExit as the request to shut its threads down."""
    raise SystemExit


def _drain(server: Any) -> None:
    """Stop listening, wait until every accepted request is answered, then end the loop.

    Works on the internals of waitress 3.0.2, hence the pin: a test holds it.
    """

    def stop_listening() -> None:
        server.del_channel()
        server.socket.close()
        server.accepting = False

    server.trigger.pull_trigger(stop_listening)  # runs in the loop's own thread
    end = time.monotonic() + DRAIN_S
    while time.monotonic() < end and _is_busy(server):
        time.sleep(0.02)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


def _is_busy(server: Any) -> bool:
    channels = list(server.active_channels.values())
    return bool(server.task_dispatcher.queue) or any(c.requests or c.total_outbufs_len for c in channels)
