"""Cross-origin resource sharing (CORS): pages of CORS_ORIGINS may call the API."""

import logging
import re
from collections.abc import Sequence

from flask import Flask, Response
from flask_cors import CORS

from project.http.request_state import current_request

METHODS_BY_PATH = {
    re.compile(r"/(?:api/v1/)?useradd(?:/bulk)?/?\Z"): ["POST"],
    re.compile(r"/api/v1/(?:stats|attempts)/(?:[^/]+/)?\Z"): ["GET"],
}
"""Regular expression of a path -> methods that pages of other origins may use, without cookies."""
ALLOWED_HEADERS = ["Accept-Language", "Authorization", "Content-Type", "Idempotency-Key", "X-Request-Id"]
EXPOSED_HEADERS = ["Content-Language", "Idempotent-Replayed", "Location", "Retry-After", "X-Request-Id"]
PREFLIGHT_MAX_AGE_S = 3600
"""Seconds for which a browser may cache the response to a preflight request."""


def init_app(app: Flask, origins: Sequence[str]) -> None:
    """Allow pages of `origins` to call the API; answer preflight requests before any view runs.

    Does nothing without origins.
    """
    if not origins:
        return
    logging.getLogger("flask_cors").setLevel(logging.WARNING)  # at INFO it logs preflight requests
    app.before_request(_answer_preflight)
    CORS(
        app,
        resources={path: {"methods": methods} for path, methods in METHODS_BY_PATH.items()},
        # Escaped patterns, because Flask-CORS takes the brackets of an IPv6 address for a regular expression
        origins=[re.compile(re.escape(origin) + r"\Z") for origin in origins],
        allow_headers=ALLOWED_HEADERS,
        expose_headers=EXPOSED_HEADERS,
        max_age=PREFLIGHT_MAX_AGE_S,
        always_send=False,
        intercept_exceptions=False,  # error responses pass after_request, too
    )


def _answer_preflight() -> Response | None:
    request = current_request()
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return None
    is_allowed = any(path.match(request.path) for path in METHODS_BY_PATH)
    return Response(status=204) if is_allowed else None
