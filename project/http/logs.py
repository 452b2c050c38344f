"""Logs on standard error: one line per event, with the request ID, without personal data."""

import atexit
import logging
import queue
import sys
import time
from functools import partial
from logging.handlers import QueueHandler, QueueListener
from typing import TextIO

from flask import Flask, Response, has_request_context, request
from pythonjsonlogger.json import JsonFormatter

from project.domain.attempts import Outcome
from project.domain.masking import mask
from project.http.request_ids import client_request_id, trace_id
from project.http.request_state import request_state
from project.runtime import get_runtime

log = logging.getLogger("useradd.access")

FLUSH_TIMEOUT_S = 1.0
"""Maximum seconds to write the queued lines when the process ends."""
QUIET_ENDPOINTS = {"health.livez", "health.readyz", "health.metrics", "static"}
"""Endpoints whose responses are not logged."""
MAX_QUEUED_LINES = 10_000
"""Maximum number of lines that wait to be written. Further lines are dropped and counted."""

_STANDARD_ATTRIBUTES = vars(logging.makeLogRecord({})).keys() | {"asctime", "message"}


class _StreamHandler(logging.StreamHandler[TextIO]):
    """A handler for standard error, which _install_handler() recognizes by its class."""


class _BoundedQueueHandler(QueueHandler):
    """A handler that queues records for a writing thread: a full pipe blocks no request."""

    def __init__(self, listener: QueueListener) -> None:
        super().__init__(listener.queue)
        self._listener = listener
        self._dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return the record unchanged: within a process it needs no pickling."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record; if the queue is full, drop the record.

        The next queued record contains the number of dropped records.
        """
        if self._dropped:
            record.dropped_lines = self._dropped
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self._dropped += 1
        else:
            self._dropped = 0

    def wait_until_written(self) -> None:
        """Wait until all records are written, at most FLUSH_TIMEOUT_S: the pipe may be blocked."""
        end = time.monotonic() + FLUSH_TIMEOUT_S
        while self.queue.unfinished_tasks and time.monotonic() < end:  # type: ignore[attr-defined]
            time.sleep(0.01)


class _TextFormatter(logging.Formatter):
    """Formats log records for people: responses in short, other records with all their fields."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - overrides the standard library
        """Return the log line. Line breaks and control characters in values are escaped."""
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD_ATTRIBUTES}
        if record.name == log.name:
            line = f"{record.asctime} {_short_line(**extra)}"
        else:
            line = f"{record.asctime} {record.levelname} {record.name}: {record.message}"
            line += "".join(f" {name}={value}" for name, value in extra.items())
        return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def _short_line(
    *, method: str, route: str, status: int, duration_ms: int, code: str = "", login: str = "", **ids: object
) -> str:
    """Return the access log line of a response: `POST /useradd 201 petrov.ivan 10 ms`."""
    words = (method, route, str(status), code if status >= 400 else "", login, f"{duration_ms} ms")
    return " ".join(filter(None, words))


def init_app(app: Flask, log_format: str) -> None:
    """Log the records of all loggers, and each response, to standard error."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    is_text = log_format == "text" or (log_format == "auto" and is_terminal)
    handler = _StreamHandler(sys.stderr)
    handler.addFilter(_add_request_ids)
    handler.setFormatter(_text_formatter(is_terminal) if is_text else _json_formatter())
    _install_handler(handler)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for noisy in ("waitress.queue", "werkzeug", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    runtime = get_runtime(app)
    runtime.on_start.append(lambda: _start_queue(handler))
    runtime.on_stop.append(_wait_until_written)
    app.after_request(partial(_log_response, is_text=is_text))


def _json_formatter() -> logging.Formatter:
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        timestamp=True,
        json_ensure_ascii=True,  # also escapes what a terminal would interpret
        rename_fields={"levelname": "level", "name": "logger"},
    )


def _text_formatter(is_terminal: bool) -> logging.Formatter:
    return _TextFormatter("%(asctime)s %(message)s", "%H:%M:%S" if is_terminal else None)


def _install_handler(handler: logging.Handler) -> None:
    """Replace the handler that this module installed earlier, so that no line appears twice."""
    root = logging.getLogger()
    for installed in [*root.handlers]:
        if isinstance(installed, _StreamHandler | _BoundedQueueHandler):
            root.removeHandler(installed)
    root.addHandler(handler)


def _start_queue(handler: logging.Handler) -> None:
    listener = QueueListener(queue.Queue(MAX_QUEUED_LINES), handler)
    listener.start()
    queue_handler = _BoundedQueueHandler(listener)
    queue_handler.addFilter(_add_request_ids)
    _install_handler(queue_handler)
    atexit.register(queue_handler.wait_until_written)


def _wait_until_written() -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _BoundedQueueHandler):
            handler.wait_until_written()


def _add_request_ids(record: logging.LogRecord) -> bool:
    if has_request_context():
        record.request_id = str(request_state().request_id)
        ids = {"client_request_id": client_request_id(), "trace_id": trace_id()}
        vars(record).update({name: value for name, value in ids.items() if value})
    return True


def _log_response(response: Response, *, is_text: bool) -> Response:
    """Log a response unless its endpoint is in QUIET_ENDPOINTS.

    The JSON format omits attempts with a status below 500, because the table `attempts` contains them; the text format
    logs them with masked logins. Query strings are not logged, because they may contain names.
    """
    state = request_state()
    attempt = state.attempt
    if (attempt and response.status_code < 500 and not is_text) or request.endpoint in QUIET_ENDPOINTS:
        return response
    fields: dict[str, object] = {
        "method": mask(request.method[:16]),
        "route": str(request.url_rule) if request.url_rule else "unknown",
        "status": response.status_code,
        "duration_ms": round((time.monotonic() - state.arrival.started) * 1000),
        "request_id": str(state.request_id),
    }
    if attempt:
        fields |= {"attempt_id": str(state.request_id), "outcome": Outcome.of(response.status_code).value}
    if attempt and is_text:
        fields["login"] = mask(attempt.sent.get("username", ""))
    if state.code:
        fields["code"] = state.code
    log.info("request finished", extra=fields)
    return response
