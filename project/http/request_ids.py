"""Request IDs of the service and of the client, and the trace ID of W3C Trace Context."""

import re

from flask import Flask, Response

from project.domain.masking import mask_request_id
from project.http.request_state import current_request, request_state

REQUEST_ID_HEADER = "X-Request-Id"
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
"""W3C Trace Context, 3.2: version, trace, span, flags; later versions may append fields."""
_SAFE_FOR_LOGS = re.compile(r"[\x21-\x7e]{1,128}")


def init_app(app: Flask) -> None:
    """Add the request ID to each response."""
    app.after_request(_set_header)


def _set_header(response: Response) -> Response:
    response.headers.add(REQUEST_ID_HEADER, str(request_state().request_id))
    return response


def client_request_id() -> str | None:
    """Return the client's X-Request-Id with contacts masked; None if absent or unsafe for logs."""
    sent = current_request().environ.get("HTTP_X_REQUEST_ID", "")
    return mask_request_id(sent) if sent and _SAFE_FOR_LOGS.fullmatch(sent) else None


def trace_id() -> str | None:
    """Return the trace ID of the traceparent header; None if it is missing or invalid."""
    match = _TRACEPARENT.fullmatch(current_request().environ.get("HTTP_TRACEPARENT", ""))
    return match and match[1]
