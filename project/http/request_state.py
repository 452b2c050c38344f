"""The typed state of the current request, and the request without Flask's proxies.

Every access through `request` or `g` costs a quarter of a microsecond: hooks use these functions, once each.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from flask import Request, g, request

from project.domain.attempts import NewAttempt, new_id
from project.domain.registration import Account, Role
from project.exporters.translations import Translations
from project.server import RECEIVED
from project.spool import Intent


class Arrival(NamedTuple):
    """When a request was received."""

    started: float
    """By time.monotonic(): durations must not jump with the clock."""
    waited_s: float
    """Seconds until a thread started to process it."""
    at: datetime


@dataclass(slots=True, kw_only=True)
class RequestState:
    """Everything that the service keeps about the current request."""

    request_id: UUID
    """Also the id of its attempt, if it is one."""
    arrival: Arrival
    attempt: NewAttempt | None = None
    """Set for requests to /useradd."""
    idempotency_key: str | None = None
    intent: Intent | None = None
    """The spool's note that this attempt is in progress."""
    code: str | None = None
    """Code of the response, for logs, metrics and traces."""
    reader: Account | None = None
    """The logged-in user, if the view requires a login."""
    language: str | None = None
    translations: Translations | None = None
    span: Any = None
    span_token: Any = None

    @property
    def account(self) -> Account:
        """The logged-in user, in a view that requires a login."""
        assert self.reader is not None, "only views that require a login may ask"  # noqa: S101 - a defect of ours
        return self.reader

    @property
    def is_administrator(self) -> bool:
        """Whether an administrator is logged in; False with an API key."""
        return self.reader is not None and self.reader.role is Role.ADMINISTRATOR

    @property
    def sees_everything(self) -> bool:
        """Whether an auditor or administrator is logged in; False with an API key."""
        return self.reader is not None and self.reader.role.sees_everything

    def sees_in_full(self, attempt_id: UUID) -> bool:
        """Whether the reader sees the attempt in full: by role, or because it is the own one."""
        return self.sees_everything or (self.reader is not None and self.reader.id == attempt_id)


def request_state() -> RequestState:
    """Return the state of the current request, which the first call creates."""
    context = vars(_current_g())
    state: RequestState | None = context.get("request_state")
    if state is None:
        now = time.monotonic()
        started = current_request().environ.get(RECEIVED, now)
        arrival = Arrival(started, now - started, datetime.now(UTC) - timedelta(seconds=now - started))
        context["request_state"] = state = RequestState(request_id=new_id(arrival.at), arrival=arrival)
    return state


_current_g: Callable[[], Any] = g._get_current_object
current_request: Callable[[], Request] = request._get_current_object  # type: ignore[attr-defined]
"""Return the current request itself instead of Flask's proxy."""
