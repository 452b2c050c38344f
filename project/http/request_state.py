"""The typed state of the current request, and access to it without Flask's proxies.

Each attribute access through the proxies `request` and `g` takes 0.25 µs. Callers get the object once instead.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from flask import Request, current_app, g, request
from werkzeug.exceptions import HTTPException

from project.domain.attempts import NewAttempt, new_id
from project.domain.registration import Account, Role
from project.exporters.translations import Translations
from project.server import RECEIVED
from project.spool import Intent


class Arrival(NamedTuple):
    """The time at which a request was received, by two clocks, and how long it was queued."""

    started: float
    """Time of arrival by time.monotonic(), for durations: corrections of the clock do not affect it."""
    waited_s: float
    """Seconds until a thread started to process it."""
    received_at: datetime
    """Time of arrival in UTC by the system clock, for records."""


@dataclass(slots=True, kw_only=True)
class RequestState:
    """The data of the current request that Flask's request object does not have."""

    request_id: UUID
    """ID of the request, and of the attempt if there is one."""
    arrival: Arrival
    attempt: NewAttempt | None = None
    """The attempt of a request to /useradd, otherwise None."""
    idempotency_key: str | None = None
    intent: Intent | None = None
    """The intent in the spool, which marks the attempt as in progress."""
    code: str | None = None
    """Code of the response, for logs, metrics and traces."""
    reader: Account | None = None
    """The logged-in user, if the view requires a login."""
    language: str | None = None
    translations: Translations | None = None
    span: Any = None
    """The OpenTelemetry span of the request, if tracing is on."""
    span_token: Any = None
    """Token with which the span is detached from the OpenTelemetry context."""

    @property
    def account(self) -> Account:
        """The logged-in user, in a view that requires a login."""
        assert self.reader is not None, "only views that require a login may use this"  # noqa: S101 - a bug
        return self.reader

    @property
    def is_administrator(self) -> bool:
        """Whether an administrator is logged in; False with an API key."""
        return self.reader is not None and self.reader.role is Role.ADMINISTRATOR

    @property
    def sees_everything(self) -> bool:
        """Whether an auditor or administrator is logged in; False with an API key."""
        return self.reader is not None and self.reader.role.sees_everything

    def sees_unmasked(self, attempt_id: UUID) -> bool:
        """Return whether the reader may see an attempt unmasked: by role, or because it is theirs."""
        return self.sees_everything or (self.reader is not None and self.reader.id == attempt_id)


def request_state() -> RequestState:
    """Return the state of the current request. The first call creates it."""
    context = vars(_current_g())
    state: RequestState | None = context.get("request_state")
    if state is None:
        now = time.monotonic()
        started = current_request().environ.get(RECEIVED, now)
        arrival = Arrival(started, now - started, datetime.now(UTC) - timedelta(seconds=now - started))
        context["request_state"] = state = RequestState(request_id=new_id(arrival.received_at), arrival=arrival)
    return state


def requested_endpoint() -> str | None:
    """Return the endpoint of the path, even if routing failed because of the method or host."""
    current = current_request()
    if current.routing_exception is None:
        return current.endpoint
    try:
        endpoint: str = current_app.url_map.bind("localhost").match(current.environ["PATH_INFO"], "POST")[0]
    except HTTPException:
        return None
    return endpoint


_current_g: Callable[[], Any] = g._get_current_object
current_request: Callable[[], Request] = request._get_current_object  # type: ignore[attr-defined]
"""Returns the current request object instead of Flask's proxy."""
