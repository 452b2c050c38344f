"""Cross-origin requests of browsers (CORS): for the origins of CORS_ORIGINS only."""

import logging
import re
from collections.abc import Sequence

from flask import Flask, Response
from flask_cors import CORS

from project.http.request_state import current_request

METHODS = {
    re.compile(r"/(?:api/v1/)?useradd(?:/bulk)?/?\Z"): ["POST"],
    re.compile(r"/api/v1/(?:stats|attempts)/(?:[^/]+/)?\Z"): ["GET"],
}
"""Addresses that are open to other origins, and their methods. Sessions are not: a cookie is never sent along."""
SENT = ["Accept-Language", "Authorization", "Content-Type", "Idempotency-Key", "X-Request-Id"]
READ = ["Content-Language", "Idempotent-Replayed", "Location", "Retry-After", "X-Request-Id"]
MAX_AGE_S = 3600
"""Seconds for which a browser may remember the answer to a preflight request."""


def init_app(app: Flask, origins: Sequence[str]) -> None:
    """Open the addresses to these origins; preflight requests are not attempts."""
    if not origins:
        return
    logging.getLogger("flask_cors").setLevel(logging.WARNING)  # it logs every preflight request of another method
    app.before_request(_answer_preflight)
    CORS(
        app,
        resources={path: {"methods": methods} for path, methods in METHODS.items()},
        # As patterns, because it takes the brackets of an IPv6 address for those of a regular expression
        origins=[re.compile(re.escape(origin) + r"\Z") for origin in origins],
        allow_headers=SENT,
        expose_headers=READ,
        max_age=MAX_AGE_S,
        always_send=False,
        intercept_exceptions=False,  # responses to errors pass after_request, too
    )


def _answer_preflight() -> Response | None:
    request = current_request()
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return None
    is_open = any(path.match(request.path) for path in METHODS)
    return Response(status=204) if is_open else None
