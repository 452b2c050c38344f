"""The listening socket of a worker: accepts connections, and closes old ones to make room."""

import errno
import logging
import time
from collections.abc import Callable
from typing import Any

from waitress.server import TcpWSGIServer

from project.server.connections import Channel, DescribeRefusal

log = logging.getLogger(__name__)

BACKLOG = 1024
"""Maximum number of connections that the kernel queues until a worker accepts them."""
MAX_CONNECTIONS = 500
"""Maximum number of open connections of a worker. Beyond it, connections that wait for their client are closed."""
CHECK_EVERY_S = 1.0
"""Seconds between checks of the time limits of connections."""
ACCEPT_PAUSE_S = 0.5
"""Seconds for which no connection is accepted if resources are exhausted and none can be freed."""
LOG_EVERY_S = 1.0
"""Minimum seconds between warnings that connections are exhausted."""
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Server(TcpWSGIServer):  # type: ignore[misc]  # waitress has no types
    """A listening socket and the connections that a worker has accepted from it."""

    channel_class = Channel
    describe_refusal: DescribeRefusal
    beat: Callable[[], None]
    large_bodies: set[Channel]
    """The connections with a body that has reached HARD_BODY_LIMIT, until it is answered."""
    _next_check_at = _next_accept_at = _next_log_at = 0.0
    _closed_count = 0

    def readable(self) -> bool:
        """Return whether to accept connections. Each round of the event loop calls this method.

        Counts a heartbeat, and enforces time limits every CHECK_EVERY_S.
        """
        self.beat()
        now = time.monotonic()
        if now >= self._next_check_at:
            self._next_check_at = now + CHECK_EVERY_S
            for channel in list(self.active_channels.values()):
                channel.enforce_time_limits(now)
        if not self.accepting or now < self._next_accept_at:
            return False
        return len(self.active_channels) < MAX_CONNECTIONS or any(
            map(Channel.can_be_closed, self.active_channels.values())
        )

    def handle_accept(self) -> None:
        """Accept a connection; close another one if there are too many."""
        super().handle_accept()
        if (
            len(self.active_channels) > MAX_CONNECTIONS
        ):  # after accept(): the new socket must not reuse the number of a closed one
            self._make_room("connection limit")

    def accept(self) -> Any:
        """Accept a connection; return None if there is none, or resources are exhausted.

        If exhausted, closes another connection, or pauses for ACCEPT_PAUSE_S. Raises other errors as OSError.
        """
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            if not self._make_room(str(error.strerror)):
                self._next_accept_at = time.monotonic() + ACCEPT_PAUSE_S
            return None

    def _make_room(self, cause: str) -> bool:
        """Close a connection that waits for its client; return False if there is none.

        Logs a warning, at most once per LOG_EVERY_S.
        """
        candidates = filter(Channel.can_be_closed, self.active_channels.values())
        channel = min(candidates, key=Channel.closing_order, default=None)
        if channel is not None:
            channel.handle_close()
            self._closed_count += 1
        now = time.monotonic()
        if now >= self._next_log_at:
            log.warning("connections exhausted", extra={"cause": cause, "closed": self._closed_count})
            self._next_log_at, self._closed_count = now + LOG_EVERY_S, 0
        return channel is not None

    def fix_addr(self, addr: tuple[Any, ...]) -> tuple[Any, ...]:
        """Unwrap an IPv4-mapped address: a dual-stack socket reports ::ffff:192.0.2.1."""
        return (addr[0].removeprefix("::ffff:"), *addr[1:])

    def stop_listening(self) -> None:
        """Accept pending connections (at most BACKLOG), then close the socket.

        Runs in the event loop.
        """
        for _ in range(BACKLOG):
            super().handle_accept()
        self.del_channel()
        self.socket.close()
        self.accepting = False
