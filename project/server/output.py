"""Output of the supervisor, which must not block if nobody reads the pipe."""

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
"""Seconds after which a write is interrupted that blocks because another process has filled the pipe after poll()."""
MAX_WRITES = 3
"""Maximum number of times to try to write a text: on a busy machine, a write may be interrupted before it has begun."""

_is_writing = False


class _BlockedError(Exception):
    """A write was interrupted after BLOCKED_S."""


class NonBlockingStream:
    """Writes to a stream without blocking the main thread.

    In the main thread, a text, or its rest, is dropped and counted if it cannot be written within MAX_WRITES *
    BLOCKED_S. Writes of other threads may block. Uses SIGALRM to interrupt the main thread, because O_NONBLOCK would
    apply to all processes that share the file descriptor.
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
        with suppress(OSError, ValueError):  # the stream is closed or has no reader
            data = text.encode(self._stream.encoding or "utf-8", "backslashreplace")
            if _write(self._stream.fileno(), data) == len(data):
                self._dropped = 0

    def flush(self) -> None:
        """Flush the stream in other threads; output of the main thread is not buffered."""
        if not _is_main_thread():
            self._stream.flush()

    def add_dropped_lines(self, record: logging.LogRecord) -> bool:
        """Add the number of lines dropped since the last written one; return True (a log filter)."""
        if self._dropped and _is_main_thread():
            record.dropped_lines = self._dropped
        return True


def make_log_non_blocking() -> None:
    """Make the root logger's handlers drop lines that the main thread cannot write at once."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is not None:
            stream = NonBlockingStream(handler.stream)
            handler.setStream(stream)
            handler.addFilter(stream.add_dropped_lines)


def end_interrupted_line() -> None:
    """Start a new line on the terminal, which has printed `^C` on the current line."""
    if sys.stderr is not None and sys.stderr.isatty():
        NonBlockingStream(sys.stderr).write("\n")


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _write(descriptor: int, data: bytes) -> int:
    """Write unless the pipe is full; return the number of bytes written. Raises OSError."""
    for _ in range(MAX_WRITES):
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
    """Handle SIGALRM: raise _BlockedError if a write is in progress."""
    global _is_writing  # noqa: PLW0603 - as above
    if _is_writing:
        _is_writing = False
        raise _BlockedError
