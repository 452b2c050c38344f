"""Value types of attempts to create a user, whatever their outcome.

An attempt is a request to /useradd, a line of a bulk request, a row of an import, or a command.
"""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from project.domain.errors import FIELDS, FieldError
from project.domain.masking import mask, mask_email, mask_fields, mask_name, mask_phone
from project.domain.strict_json import json_type
from project.domain.text import clean

CREATED = "created"
DRY_RUN = "dry_run"
REPLAYED = "replayed"
"""Codes of attempts that were not refused."""
HIDDEN = "•••"
"""Placeholder for a value that is not stored or not shown."""
KEY_LIFETIME = timedelta(hours=24)
"""Lifetime of an idempotency key; the SQL function useradd_many() has the same value."""
MAX_STORED_FIELDS = 20
"""Maximum number of body fields that are stored; a valid request has five."""


class Outcome(StrEnum):
    """The outcome of an attempt. `unchanged` is a success without a new user (dry run, replay)."""

    CREATED = "created"
    REJECTED = "rejected"
    FAILED = "failed"
    UNCHANGED = "unchanged"

    @classmethod
    def of(cls, status: int) -> "Outcome":
        """Return the outcome for an HTTP status; 0 means that the process died before it responded."""
        if 200 <= status < 300:
            return cls.CREATED if status == 201 else cls.UNCHANGED
        return cls.REJECTED if 400 <= status < 500 else cls.FAILED


def new_id(received_at: datetime) -> UUID:
    """Return a new UUIDv7 (RFC 9562, 5.7) for this time. IDs sort by time, to the microsecond.

    The twelve bits after the milliseconds contain the fraction of the millisecond (6.2, method 3).
    """
    return _uuid7(received_at, secrets.randbits(62))


def lowest_id(moment: datetime) -> UUID:
    """Return the lowest ID that an attempt received at or after `moment` can have."""
    return _uuid7(moment, 0)


def parse_id(text: str) -> UUID | None:
    """Parse an ID; return None if the text is not a UUID."""
    try:
        return UUID(text)
    except ValueError:
        return None


def _uuid7(moment: datetime, random_bits: int) -> UUID:
    microseconds = max(0, (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
    milliseconds, rest = divmod(microseconds, 1000)
    return UUID(int=milliseconds << 80 | 7 << 76 | rest * 4096 // 1000 << 64 | 2 << 62 | random_bits)


@dataclass(slots=True, kw_only=True)
class NewAttempt:
    """An attempt in progress. store_body() adds the fields of the request body."""

    id: UUID
    received_at: datetime
    started: float
    """time.monotonic() on arrival."""
    method: str
    language: str
    client_address: str
    user_agent: str
    client_request_id: str | None
    """The request ID that the client sent, masked; None if it sent none."""
    key_hash: bytes | None = None
    """SHA-256 of the idempotency key, None before the key is known. The key itself is never stored."""
    sent: Mapping[str, str] = field(default_factory=dict)
    """The fields of the body, partly masked. Set by store_body()."""

    @classmethod
    def without_request(cls, method: str, language: str, program: str, **values: Any) -> Self:
        """Return an attempt of a command or an import, which has no HTTP request and starts now.

        `program` is recorded as the User-Agent header; `values` set other fields.
        """
        now = datetime.now(UTC)
        return cls(
            id=new_id(now),
            received_at=now,
            started=time.monotonic(),
            method=method,
            language=language,
            client_address="",
            user_agent=program,
            **{"client_request_id": None, **values},
        )

    def elapsed_ms(self) -> int:
        """Return the milliseconds since the attempt began, by the monotonic clock."""
        return round((time.monotonic() - self.started) * 1000)

    def store_body(self, body: Mapping[str, Any], region: str) -> None:
        """Set `sent` to at most MAX_STORED_FIELDS fields of the body.

        Phone and e-mail are masked, and values of unknown fields are replaced by HIDDEN. Login, name and birth date are
        stored in full, because auditors may see them. `region` is the country of phone numbers without a country code.
        """
        self.sent = {
            name if name in FIELDS else clean(name, 40): _stored_text(name, value, region)
            for name, value in list(body.items())[:MAX_STORED_FIELDS]
        }


def _stored_text(name: str, value: object, region: str) -> str:
    if name not in FIELDS:
        return HIDDEN
    if not isinstance(value, str):
        return f"({json_type(value)})"
    match name:
        case "phone":
            return clean(mask_phone(clean(value, 300), region), 40)
        case "email":
            return clean(mask_email(clean(value, 300)), 80)
        case _:
            return clean(value, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """A recorded attempt with the columns that lists, the API and exports show.

    Values of the user that the client did not send are None.
    """

    id: UUID
    received_at: datetime
    status: int
    """The outcome as an HTTP status; 0 if the process died before it responded."""
    answered: int | None
    """HTTP status of the response; None if there was none."""
    code: str
    via: str
    """`direct`, `spool` or `recovered` (see project/domain/records.py)."""
    method: str
    duration_ms: int
    username: str | None
    name: str | None
    phone_masked: str | None
    email_masked: str | None
    errors: tuple[FieldError, ...]

    @property
    def outcome(self) -> Outcome:
        return Outcome.of(self.status)

    @property
    def is_unconfirmed(self) -> bool:
        """Whether the attempt created a user but the response did not have the status 201."""
        return self.status == 201 and self.answered != 201

    @property
    def response_code(self) -> str:
        """The code in the response, which differs from `code` if fields are invalid or taken."""
        if self.errors:
            return "conflict" if self.status == 409 else "validation_failed"
        return self.code

    @property
    def contacts(self) -> tuple[str, ...]:
        """The masked phone number and e-mail address, without those that the client did not send."""
        return tuple(filter(None, (self.phone_masked, self.email_masked)))

    def masked(self) -> Self:
        """Return a copy for readers with the role `user`: login, name and errors are masked."""
        return replace(
            self,
            username=self.username and mask(self.username),
            name=self.name and mask_name(self.name),
            errors=mask_errors(self.errors),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptDetail(AttemptRow):
    """A recorded attempt with all columns, which its page shows."""

    recorded_at: datetime
    sent: Mapping[str, str]
    language: str
    client_address: str
    user_agent: str
    client_request_id: str | None
    key_hash: bytes | None

    @property
    def replayable_until(self) -> datetime | None:
        """The time until which the idempotency key is valid; None without a key."""
        return self.received_at + KEY_LIFETIME if self.key_hash else None

    def masked(self) -> Self:
        """Return a copy for readers with the role `user`: masked, without birth date and client."""
        sent = mask_fields(self.sent)
        if "name" in sent:
            sent["name"] = mask_name(self.sent["name"])
        if "birth_date" in sent:
            sent["birth_date"] = HIDDEN
        return replace(AttemptRow.masked(self), sent=sent, client_address="", user_agent="")


def mask_errors(errors: tuple[FieldError, ...]) -> tuple[FieldError, ...]:
    """Mask the names of unknown fields in errors. Clients may send contact data as such names."""
    return tuple(error if error.field in FIELDS else replace(error, field=mask(error.field)) for error in errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFilter:
    """A filter of attempts. All parts of a report use the same filter, so their numbers agree.

    `since` is inclusive and `until` is exclusive. None means no bound; an empty set or text matches any value. Attempts
    with a `seq` above `max_seq` were recorded after the snapshot and are excluded.
    """

    since: datetime | None = None
    until: datetime | None = None
    outcomes: frozenset[Outcome] = frozenset()
    codes: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()
    text: str = ""
    """The text to search for, as in the query parameter `q`."""
    client_address: str = ""
    """The recorded client address, which has to match exactly."""
    client_program: str = ""
    """A text that the User-Agent header has to contain, in any letter case."""
    max_seq: int | None = None
    unmasked: bool = False
    """Whether the reader sees logins and names in full, and may search for any part of them."""

    @property
    def is_search(self) -> bool:
        """Whether the filter searches for text, so that aggregates cannot answer it."""
        return bool(self.text or self.client_address or self.client_program)

    @property
    def needs_scan(self) -> bool:
        """Whether the search has to read every attempt of the period, because it can use no index."""
        return self.is_search and not (self.text.startswith("=") or parse_id(self.text))

    @property
    def selects_by_kind(self) -> bool:
        """Whether the filter selects by kind (status, code, outcome) and does not search for text."""
        return not self.is_search and bool(self.outcomes or self.codes or self.statuses)
