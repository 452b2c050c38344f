"""Structured logs: one line an event, with the number of the request and without personal data."""

import logging
import sys
from typing import TextIO

from flask import Flask, Response, g, has_request_context, request
from pythonjsonlogger.json import JsonFormatter

from project.web.request_id import request_id

log = logging.getLogger("useradd.access")


class _Handler(logging.StreamHandler[TextIO]):
    """The one handler that is ours."""


def init_app(app: Flask, form: str) -> None:
    """Send every logger's lines to standard error in the chosen form; write one for each answer."""
    handler = _Handler(sys.stderr)
    handler.addFilter(_add_request_id)
    handler.setFormatter(
        JsonFormatter(
            "%(levelname)s %(name)s %(message)s",
            timestamp=True,
            json_ensure_ascii=True,  # escapes also what a terminal would obey
            rename_fields={"levelname": "level", "name": "logger"},
        )
        if form == "json"
        else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    for former in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(former)  # of another application in this process: a line is written once
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for noisy in ("waitress.queue", "werkzeug", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    app.after_request(_access)


def _add_request_id(record: logging.LogRecord) -> bool:
    if has_request_context() and "request_id" in g:
        record.request_id = str(g.request_id)
    return True


def _access(response: Response) -> Response:
    """Health checks come every second and tell nothing; a query string may hold a name: neither is logged."""
    if request.endpoint not in {"health.livez", "health.readyz", "static"}:
        log.info(
            "answered",
            extra={
                "method": request.method[:16],
                "route": _route(),
                "status": response.status_code,
                "request_id": str(request_id()),
            },
        )
    return response


def _route() -> str:
    return str(request.url_rule) if request.url_rule else "unknown"
