"""A number for each request: it stands in the answer, the log and, for /useradd, in the attempt."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from flask import Flask, Response, request

from project.domain.attempts import new_id
from project.server import RECEIVED
from project.web.context import this_g

HEADER = "X-Request-Id"
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
"""W3C Trace Context, 3.2: version, trace, span, flags; a later version may say more."""
_ACCEPTABLE = re.compile(r"[\x21-\x7e]{1,128}")


class Arrival(NamedTuple):
    """When a request came in."""

    started: float
    """By time.monotonic(): durations must not jump with the clock."""
    waited_s: float
    """Seconds until a thread took it."""
    at: datetime


def init_app(app: Flask) -> None:
    """Number requests before anything else looks at them."""
    app.before_request(_begin)
    app.after_request(_tell)


def _begin() -> None:
    here, now = this_g(), time.monotonic()
    started = request.environ.get(RECEIVED, now)
    here.arrival = arrival = Arrival(started, now - started, datetime.now(UTC) - timedelta(seconds=now - started))
    here.request_id = new_id(arrival.at)


def _tell(response: Response) -> Response:
    response.headers[HEADER] = str(request_id())
    return response


def request_id() -> UUID:
    """Return the number of this request: the id of its attempt, where it is one."""
    here = this_g()
    if "request_id" not in here:  # a request that Flask refuses before its first hook
        _begin()
    number: UUID = here.request_id
    return number


def client_request_id() -> str | None:
    """Return the number that the caller gave the request, None if there is none or it could harm a log."""
    given = request.environ.get("HTTP_X_REQUEST_ID", "")
    return given if _ACCEPTABLE.fullmatch(given) else None


def trace_id() -> str | None:
    """Return the number of the trace that the request belongs to, None if its caller named none."""
    found = _TRACEPARENT.fullmatch(request.headers.get("Traceparent", ""))
    return found and found[1]
