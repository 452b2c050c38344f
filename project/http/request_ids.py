"""Request IDs: ours in every response and log line, the caller's own, and that of its W3C trace."""

import re

from flask import Flask, Response, request

from project.domain.masking import mask_request_id
from project.http.request_state import request_state

HEADER = "X-Request-Id"
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
"""W3C Trace Context, 3.2: version, trace, span, flags; later versions may append fields."""
_SAFE_FOR_LOGS = re.compile(r"[\x21-\x7e]{1,128}")


def init_app(app: Flask) -> None:
    """Create the request state, and so the request ID, before any other hook runs."""
    app.before_request(_begin)
    app.after_request(_set_header)


def _begin() -> None:
    request_state()


def _set_header(response: Response) -> Response:
    response.headers[HEADER] = str(request_state().request_id)
    return response


def client_request_id() -> str | None:
    """Return the caller's own request ID with masked contacts, None if it sent none or one that is unsafe to log."""
    sent = request.environ.get("HTTP_X_REQUEST_ID", "")
    return mask_request_id(sent) if _SAFE_FOR_LOGS.fullmatch(sent) else None


def trace_id() -> str | None:
    """Return the ID of the trace that the caller named, None if it named none."""
    match = _TRACEPARENT.fullmatch(request.headers.get("Traceparent", ""))
    return match and match[1]
