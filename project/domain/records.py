"""Records of attempts that created no user, and their serialization as lines of the spool."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from project.domain.attempts import NewAttempt, mask_errors
from project.domain.errors import FieldError
from project.domain.masking import mask_fields

DIRECT, SPOOL, RECOVERED = "direct", "spool", "recovered"
"""Values of `via`, the way in which a record reached the table: at once, from the spool, or from the intent of a
process that was killed."""
INTERRUPTED = "interrupted"

_encoder = json.JSONEncoder(separators=(",", ":"), check_circular=False)


def to_json(values: Mapping[str, object]) -> str:
    """Return a JSON object in ASCII without line breaks."""
    return _encoder.encode(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """An attempt that created no user, with its outcome."""

    attempt: NewAttempt
    status: int
    answered: int | None
    """HTTP status of the response; None if there was none."""
    code: str
    errors: tuple[FieldError, ...] = ()
    duration_ms: int = 0
    via: str = DIRECT

    @classmethod
    def interrupted(cls, attempt: NewAttempt) -> "AttemptRecord":
        """Return the record to store if this process dies before it responds."""
        return cls(attempt=attempt, status=0, answered=None, code=INTERRUPTED, via=RECOVERED)

    def to_line(self) -> str:
        """Serialize the record as JSON for PostgreSQL."""
        return self._serialize(self.attempt.sent, self.errors)

    def to_masked_line(self) -> str:
        """Serialize the record as a line of the spool, with contact data in all fields masked."""
        return self._serialize(mask_fields(self.attempt.sent), mask_errors(self.errors))

    def _serialize(self, sent: Mapping[str, str], errors: tuple[FieldError, ...]) -> str:
        attempt = self.attempt
        values = {
            "id": str(attempt.id),
            "received_at": attempt.received_at.isoformat(),
            "status": self.status,
            "answered": self.answered,
            "code": self.code,
            "errors": [error.as_json() for error in errors],
            "duration_ms": self.duration_ms,
            "via": self.via,
            "method": attempt.method,
            "language": attempt.language,
            "client_address": attempt.client_address,
            "user_agent": attempt.user_agent,
            "client_request_id": attempt.client_request_id,
            "key_hash": attempt.key_hash and attempt.key_hash.hex(),
            "sent": dict(sent),
        }
        return to_json(values)

    @classmethod
    def from_line(cls, line: str) -> "AttemptRecord":
        """Parse a line of the spool. Raises ValueError if the line is invalid."""
        try:
            return cls._from_dict(json.loads(line))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("this line is not an attempt") from error

    @classmethod
    def _from_dict(cls, values: dict[str, Any]) -> "AttemptRecord":
        attempt = NewAttempt(
            id=UUID(values["id"]),
            received_at=datetime.fromisoformat(values["received_at"]),
            started=0,
            method=values["method"],
            language=values["language"],
            client_address=values["client_address"],
            user_agent=values["user_agent"],
            client_request_id=values["client_request_id"],
            key_hash=bytes.fromhex(values["key_hash"]) if values["key_hash"] else None,
            sent=dict(values["sent"]),
        )
        return cls(
            attempt=attempt,
            status=values["status"],
            answered=values["answered"],
            code=values["code"],
            errors=tuple(FieldError.from_json(error) for error in values["errors"]),
            duration_ms=values["duration_ms"],
            via=values["via"],
        )
