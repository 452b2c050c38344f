"""Errors with the codes of the API; their statuses and texts are in project/contract."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any

FIELDS = ("name", "username", "phone", "email", "birth_date")
"""The fields of a request. Errors of missing fields are reported in this order, after those of the sent fields."""

Params = Mapping[str, str | int]
"""Placeholder of a message -> value."""
NO_PARAMS: Params = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class FieldError:
    """An invalid field. `variant` selects a message for `code`; `params` fill in the message."""

    field: str
    code: str
    variant: str = ""
    params: Params = dataclasses.field(default_factory=lambda: NO_PARAMS)

    def as_json(self) -> dict[str, Any]:
        """Return the error as a JSON object for the database and the spool."""
        return {"field": self.field, "code": self.code, "variant": self.variant, "params": dict(self.params)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "FieldError":
        """Parse a JSON object that as_json() or an SQL function of this service produced."""
        return cls(stored["field"], stored["code"], stored.get("variant", ""), stored.get("params") or NO_PARAMS)


class ClocksDifferError(Exception):
    """The clocks of PostgreSQL and this machine differ too much to delete anything by age."""

    def __init__(self, difference: timedelta) -> None:
        super().__init__(f"PostgreSQL's clock differs from this machine's by {difference.total_seconds():+.0f} s")


class RuleError(ValueError):
    """A value breaks a rule. The caller, which knows the field, creates a FieldError from it."""

    def __init__(self, code: str, variant: str = "", **params: str | int) -> None:
        super().__init__(code)
        self.code = code
        self.variant = variant
        self.params = params


class RefusalError(Exception):
    """A refused request. `code` is part of the API and never changes its meaning."""

    retry_after_s: int | None = None
    """Seconds after which a retry may succeed; None if unknown."""
    recorded = False
    """Whether the attempt is already recorded, by the transaction that refused the request."""

    def __init__(self, code: str, variant: str = "", errors: tuple[FieldError, ...] = (), **params: str | int) -> None:
        super().__init__(code)
        self.code = code
        self.variant = variant
        self.errors = errors
        self.params = params

    @property
    def reason(self) -> str:
        """The code that is recorded: the code of the first invalid field, or else `code`."""
        return self.errors[0].code if self.errors else self.code


class ValidationFailedError(RefusalError):
    """One or more fields are invalid; `errors` lists them."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("validation_failed", errors=errors)


class SearchTooBroadError(RefusalError):
    """A text search reached its time limit."""

    def __init__(self) -> None:
        super().__init__("bad_request", "search")


class RecordedRefusalError(RefusalError):
    """PostgreSQL refused the request and recorded the attempt in the same transaction."""

    recorded = True


class IdentifiersTakenError(RecordedRefusalError):
    """The username, phone or e-mail belongs to another user; `errors` lists all conflicts."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        errors = tuple(FieldError(field, f"{field}_taken") for field in fields)
        super().__init__("conflict", errors[0].code if len(errors) == 1 else "", errors)


class DatabaseUnavailableError(RefusalError):
    """PostgreSQL is unavailable or did not finish the transaction in time: nothing was created."""

    def __init__(self, cause: str = "") -> None:
        super().__init__("database_unavailable")
        self.cause = cause
        """The cause for the log, never sent to clients."""


class QueryTimeoutError(DatabaseUnavailableError):
    """A statement timed out although the server is available. A retry would time out, too.

    Database.run_once() also raises it after a missed deadline or a conflict with another transaction.
    """


class WritesRefusedError(DatabaseUnavailableError):
    """PostgreSQL answers but cannot write: it is read-only, out of space, or its disk fails."""


class OutcomeUnknownError(RefusalError):
    """A statement or COMMIT was not confirmed: the user may or may not exist."""

    def __init__(self) -> None:
        super().__init__("outcome_unknown")


class RateLimitedError(RefusalError):
    """A rate limit was exceeded. The request was not processed."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("rate_limited")
        self.retry_after_s = retry_after_s


class OverloadedError(RefusalError):
    """The request was refused, because too many requests are waiting. Nothing was created."""

    def __init__(self) -> None:
        super().__init__("overloaded")


UNAVAILABLE_ERRORS = (DatabaseUnavailableError, OutcomeUnknownError, OverloadedError)
"""Errors after which the client may retry the request with the same idempotency key."""
