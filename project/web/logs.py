"""Structured logs: one line an event, with the number of the request and without personal data."""

import atexit
import logging
import queue
import sys
import threading
import time
from typing import TextIO

from flask import Flask, Response, g, has_request_context, request
from pythonjsonlogger.json import JsonFormatter

from project.domain.attempts import Outcome
from project.web.context import this_g
from project.web.request_id import client_request_id, request_id, trace_id

log = logging.getLogger("useradd.access")

FLUSH_S = 1.0
QUIET = {"health.livez", "health.readyz", "health.metrics", "static"}

_STANDARD = vars(logging.makeLogRecord({})).keys() | {"asctime", "message"}

BUFFERED = 10_000
"""Lines that wait for a slow reader of the log; more are dropped, and counted."""


class _Handler(logging.StreamHandler[TextIO]):
    """The one handler that is ours. A process that serves writes in a thread: a blocked pipe must block no request."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._waiting: queue.Queue[logging.LogRecord] | None = None
        self._dropped = 0

    def buffer(self) -> None:
        """Write in a thread of this process from now on."""
        self._waiting = queue.Queue(BUFFERED)
        threading.Thread(target=self._write, args=(self._waiting,), name="log", daemon=True).start()
        atexit.register(self.flush_buffer)

    def flush_buffer(self) -> None:
        """Wait until what was said is written, but not for long: whoever reads may be gone."""
        end = time.monotonic() + FLUSH_S
        while self._waiting and self._waiting.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.01)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or have it written."""
        if self._waiting is None:
            super().emit(record)
            return
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def _write(self, waiting: queue.Queue[logging.LogRecord]) -> None:
        while True:
            record = waiting.get()
            if self._dropped:
                record.dropped_lines, self._dropped = self._dropped, 0
            super().emit(record)
            waiting.task_done()


class _TextFormatter(logging.Formatter):
    """A line for people, with everything that the JSON one has; a traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is of the standard library
        """Return the line; nothing in it can end it or give orders to a terminal."""
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        told = " ".join(f"{name}={value}" for name, value in extra.items())
        return ascii(f"{super().formatMessage(record)} {told}".rstrip())[1:-1]


def buffer() -> None:
    """Let this process log without ever waiting for whoever reads its log."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.buffer()


def flush() -> None:
    """Wait until what this process has logged is written, but not for long."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.flush_buffer()


def init_app(app: Flask, form: str) -> None:
    """Send every logger's lines to standard error in the chosen form; write one for each answer."""
    handler = _Handler(sys.stderr)
    handler.addFilter(_add_numbers)
    handler.setFormatter(
        JsonFormatter(
            "%(levelname)s %(name)s %(message)s",
            timestamp=True,
            json_ensure_ascii=True,  # escapes also what a terminal would obey
            rename_fields={"levelname": "level", "name": "logger"},
        )
        if form == "json"
        else _TextFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    for former in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(former)  # of another application in this process: a line is written once
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for noisy in ("waitress.queue", "werkzeug", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    app.after_request(_access)


def _add_numbers(record: logging.LogRecord) -> bool:
    """Add our number of the request, the caller's, and that of the trace."""
    if has_request_context() and "request_id" in g:
        numbers = {"request_id": g.request_id, "client_request_id": client_request_id(), "trace_id": trace_id()}
        vars(record).update({name: str(number) for name, number in numbers.items() if number})
    return True


def _access(response: Response) -> Response:
    """Health checks come every second and tell nothing; an attempt that went well has a row that tells more.

    A query string may hold a name: it is not logged.
    """
    if not ("attempt" in this_g() and response.status_code < 500) and request.endpoint not in QUIET:
        number = str(request_id())
        told = {
            "method": request.method[:16],
            "route": _route(),
            "status": response.status_code,
            "duration_ms": round((time.monotonic() - g.arrival.started) * 1000),
            "request_id": number,
        }
        if "attempt" in g:
            told |= {"attempt_id": number, "outcome": Outcome.of(response.status_code).value}
        if "code" in g:
            told["code"] = g.code
        log.info("answered", extra=told)
    return response


def _route() -> str:
    return str(request.url_rule) if request.url_rule else "unknown"
