"""Output of the supervisor, which must not block even if the reader of its pipe stops."""

import logging
import os
import select
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import TextIO

BLOCKED_S = 0.1
"""Seconds after which a blocked write is interrupted: another process may have filled the pipe in between."""
ATTEMPTS = 3
"""Maximum number of attempts to write a text: on a busy machine, a write may be interrupted before it has begun."""

_is_writing = False


class _BlockedError(Exception):
    """A write was interrupted after BLOCKED_S."""


class NonBlockingStream:
    """Writes to a stream without blocking the main thread.

    In the main thread, a text that cannot be written at once is dropped and counted. Writes of other threads may block.
    Uses SIGALRM to interrupt the main thread, because O_NONBLOCK would apply to all processes that share the file
    descriptor.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._dropped = 0
        signal.signal(signal.SIGALRM, _raise_blocked)

    def write(self, text: str) -> None:
        """Write the text or drop it. Never raises in the main thread."""
        if not _is_main_thread():
            self._stream.write(text)
            return
        self._dropped += 1
        with suppress(OSError, ValueError):  # closed, without a reader
            data = text.encode(self._stream.encoding or "utf-8", "backslashreplace")
            if _write(self._stream.fileno(), data) == len(data):
                self._dropped = 0

    def flush(self) -> None:
        """Flush the stream in other threads; output of the main thread is not buffered."""
        if not _is_main_thread():
            self._stream.flush()

    def add_dropped_lines(self, record: logging.LogRecord) -> bool:
        """Add the number of dropped lines to a record. Used as a filter of a log handler."""
        if self._dropped and _is_main_thread():
            record.dropped_lines = self._dropped
        return True


def stop_blocking_log() -> None:
    """Make the log handlers of this process drop lines that they cannot write at once."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is not None:
            stream = NonBlockingStream(handler.stream)
            handler.setStream(stream)
            handler.addFilter(stream.add_dropped_lines)


def end_interrupted_line() -> None:
    """Start a new line on the terminal, because it has printed `^C` on the current one."""
    if sys.stderr is not None and sys.stderr.isatty():
        NonBlockingStream(sys.stderr).write("\n")


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _write(descriptor: int, data: bytes) -> int:
    """Return the number of bytes that were written without blocking."""
    for _ in range(ATTEMPTS):
        with suppress(_BlockedError):
            return _write_once(descriptor, data)
    return 0


def _write_once(descriptor: int, data: bytes) -> int:
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    if not poller.poll(0):
        return 0
    global _is_writing  # noqa: PLW0603 - the signal handler knows no other state
    _is_writing = True
    signal.setitimer(signal.ITIMER_REAL, BLOCKED_S)
    try:
        return os.write(descriptor, data)
    finally:
        _is_writing = False
        signal.setitimer(signal.ITIMER_REAL, 0)


def _raise_blocked(signum: int, frame: FrameType | None) -> None:
    """Handle SIGALRM: interrupt the current write by an exception. Ignore it if there is none."""
    global _is_writing  # noqa: PLW0603 - as above
    if _is_writing:
        _is_writing = False
        raise _BlockedError
