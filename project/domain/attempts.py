"""Attempts: one for each call of /useradd, whatever its end."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from project.domain.contacts import mask_email, mask_phone
from project.domain.errors import FIELDS, FieldError
from project.domain.strict_json import json_type
from project.domain.text import clean

CREATED = "created"
CHECKED = "dry_run"
REPLAYED = "replayed"
SHOWN_FIELDS = 20
"""How many fields of a body are kept: a typed form has five, a flood of keys is no form."""


class Outcome(StrEnum):
    """The end of an attempt. `unchanged` succeeded without creating: a dry run, or a replay of an earlier answer."""

    CREATED = "created"
    REJECTED = "rejected"
    FAILED = "failed"
    UNCHANGED = "unchanged"

    @classmethod
    def of(cls, status: int) -> "Outcome":
        """Return the outcome that an HTTP status stands for; 0 means that the process died before it could answer."""
        match status:
            case 201:
                return cls.CREATED
            case status if 200 <= status < 300:
                return cls.UNCHANGED
            case status if 400 <= status < 500:
                return cls.REJECTED
            case _:
                return cls.FAILED


def new_id(received_at: datetime) -> UUID:
    """Return a UUIDv7 (RFC 9562, 5.7) of this moment: the order of ids is the order of time, to the microsecond.

    The twelve bits behind the milliseconds hold the fraction of the millisecond (6.2, method 3).
    """
    microseconds = _microseconds(received_at)
    fraction = microseconds % 1000 * 4096 // 1000
    return _uuid7(microseconds // 1000, fraction, secrets.randbits(62))


def first_id(moment: datetime) -> UUID:
    """Return the lowest id that an attempt received at `moment` or later can have: a period is a range of ids."""
    microseconds = _microseconds(moment)
    return _uuid7(microseconds // 1000, microseconds % 1000 * 4096 // 1000, 0)


def _microseconds(moment: datetime) -> int:
    return max(0, (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))


def _uuid7(milliseconds: int, fraction: int, noise: int) -> UUID:
    return UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | noise)


@dataclass(slots=True, kw_only=True)
class NewAttempt:
    """An attempt under way. It begins with what the request's head tells and gains what its body holds."""

    id: UUID
    received_at: datetime
    started: float
    """time.monotonic() when the request came in: durations must not jump with the clock."""
    method: str
    language: str
    client_address: str
    user_agent: str
    client_request_id: str | None
    key_hash: bytes | None = None
    """SHA-256 of the idempotency key; the key itself is never kept."""
    sent: Mapping[str, str] = field(default_factory=dict)

    def keep_body(self, body: Mapping[str, Any]) -> None:
        """Remember what was sent, contacts masked, values of unknown fields not at all (they may be passwords)."""
        self.sent = {clean(name, 40): _shown(name, value) for name, value in list(body.items())[:SHOWN_FIELDS]}


def _shown(name: str, value: object) -> str:
    if name not in FIELDS:
        return "•••"
    if not isinstance(value, str):
        return f"({json_type(value)})"
    match name:
        case "phone":
            return mask_phone(value)
        case "email":
            return mask_email(value)
        case _:
            return clean(value, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """An attempt as the table keeps it: what pages, the API and exports show."""

    id: UUID
    received_at: datetime
    status: int
    answered: int | None
    code: str
    via: str
    method: str
    duration_ms: int
    username: str | None
    name: str | None
    phone_masked: str | None
    email_masked: str | None
    errors: tuple[FieldError, ...]

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        return Outcome.of(self.status)

    @property
    def response_code(self) -> str:
        """The code in the response; `code` is that of the first wrong field."""
        if self.errors:
            return "conflict" if self.status == 409 else "validation_failed"
        return self.code

    @property
    def contacts(self) -> tuple[str, ...]:
        """Phone and e-mail, masked, as far as they were sent."""
        return tuple(filter(None, (self.phone_masked, self.email_masked)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptDetail(AttemptRow):
    """All that is kept of an attempt, for its own page."""

    recorded_at: datetime
    sent: Mapping[str, str]
    language: str
    client_address: str
    user_agent: str
    client_request_id: str | None
    key_hash: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFilter:
    """The reader's choice. Figures, chart, table and exports are given the same one, so they can never disagree.

    `since` is included, `until` is not; an empty set means "any". `newest` (a sequence number of the table) closes
    the picture: what is recorded later is not in it.
    """

    since: datetime | None = None
    until: datetime | None = None
    outcomes: frozenset[Outcome] = frozenset()
    codes: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()
    text: str = ""
    newest: int | None = None

    @property
    def is_of_kinds(self) -> bool:
        """Whether pairs of status and reason are all that is chosen among."""
        return not self.text and bool(self.outcomes or self.codes or self.statuses)
