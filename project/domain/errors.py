"""Why a user was not created, in stable words. Statuses and texts belong to the floors above."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

FIELDS = ("name", "username", "phone", "email", "birth_date")
"""The fields of a request, in the order in which errors are reported."""

Params = Mapping[str, str | int]
NO_PARAMS: Params = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that is wrong. `variant` picks the exact sentence among those of a code, `params` fill it."""

    field: str
    code: str
    variant: str = ""
    params: Params = dataclasses.field(default_factory=lambda: NO_PARAMS)

    def as_json(self) -> dict[str, Any]:
        """Return what is kept of it."""
        return {"field": self.field, "code": self.code, "variant": self.variant, "params": dict(self.params)}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "FieldError":
        """Return what as_json() or the function useradd() kept."""
        return cls(kept["field"], kept["code"], kept.get("variant", ""), kept.get("params") or NO_PARAMS)


class RuleError(ValueError):
    """A value breaks a rule of its field; the rule does not know which field it guards."""

    def __init__(self, code: str, variant: str = "", **params: str | int) -> None:
        super().__init__(code)
        self.code = code
        self.variant = variant
        self.params = params


class RefusalError(Exception):
    """The request ends without a new user. `code` is part of the contract and never changes its meaning."""

    retry_after_s: int | None = None
    """When it is worth to come again, if that is known."""
    recorded = False
    """True when the transaction that refused has recorded the attempt already."""

    def __init__(self, code: str, variant: str = "", errors: tuple[FieldError, ...] = (), **params: str | int) -> None:
        super().__init__(code)
        self.code = code
        self.variant = variant
        self.errors = errors
        self.params = params

    @property
    def reason(self) -> str:
        """The most telling code: that of the first wrong field, else the refusal's own. Statistics count it."""
        return self.errors[0].code if self.errors else self.code


class ValidationFailedError(RefusalError):
    """One or more fields are wrong: all of them are named."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("validation_failed", errors=errors)


class SearchTooBroadError(RefusalError):
    """A text was looked for among too many attempts."""

    def __init__(self) -> None:
        super().__init__("bad_request", "search")


class DecidedError(RefusalError):
    """PostgreSQL itself refused, and recorded the attempt in the same transaction."""

    recorded = True


class IdentifiersTakenError(DecidedError):
    """Username, phone or e-mail belong to another user: all that clash are named."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        errors = tuple(FieldError(kind, f"{kind}_taken") for kind in kinds)
        super().__init__("conflict", errors[0].code if len(errors) == 1 else "", errors)


class DatabaseUnavailableError(RefusalError):
    """PostgreSQL did not take the transaction in time: surely nothing was created by this attempt."""

    def __init__(self, cause: str = "") -> None:
        super().__init__("database_unavailable")
        self.cause = cause
        """For operators, never for clients."""


class QueryTimeoutError(DatabaseUnavailableError):
    """The statement took longer than statement_timeout on a healthy server: retrying it is pointless."""


class OutcomeUnknownError(RefusalError):
    """COMMIT was sent and never confirmed: the user may or may not exist (promise P5)."""

    def __init__(self) -> None:
        super().__init__("outcome_unknown")


class RateLimitedError(RefusalError):
    """Somebody asks too often. Nothing was looked at, so nothing was created."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("rate_limited")
        self.retry_after_s = retry_after_s


class OverloadedError(RefusalError):
    """Too many requests wait already: this one was turned away at once, and nothing was created."""

    def __init__(self) -> None:
        super().__init__("overloaded")
