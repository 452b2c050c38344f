"""What becomes of an attempt that ends without a user: a row of the table, or a line of the spool until then."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from project.domain.attempts import NewAttempt
from project.domain.errors import FieldError

DIRECT, SPOOL, RECOVERED = "direct", "spool", "recovered"
"""How a record came into the table: at once; by way of the disk; after its process was killed."""
INTERRUPTED = "interrupted"

_encoder = json.JSONEncoder(separators=(",", ":"))


def to_json(kept: Mapping[str, object]) -> str:
    """Return a JSON object without line breaks and beyond ASCII nothing."""
    return _encoder.encode(kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """An attempt and its end."""

    attempt: NewAttempt
    status: int
    answered: int | None
    """What the client was told; None when it got no answer."""
    code: str
    errors: tuple[FieldError, ...] = ()
    duration_ms: int = 0
    via: str = DIRECT

    @classmethod
    def interrupted(cls, attempt: NewAttempt) -> "AttemptRecord":
        """Return what shall be recorded if this process dies before it answers."""
        return cls(attempt=attempt, status=0, answered=None, code=INTERRUPTED, via=RECOVERED)

    def to_line(self) -> str:
        """Return this as a text without line breaks."""
        attempt = self.attempt
        kept = {
            "id": str(attempt.id),
            "received_at": attempt.received_at.isoformat(),
            "status": self.status,
            "answered": self.answered,
            "code": self.code,
            "errors": [error.as_json() for error in self.errors],
            "duration_ms": self.duration_ms,
            "via": self.via,
            "method": attempt.method,
            "language": attempt.language,
            "client_address": attempt.client_address,
            "user_agent": attempt.user_agent,
            "client_request_id": attempt.client_request_id,
            "key_hash": attempt.key_hash and attempt.key_hash.hex(),
            "sent": dict(attempt.sent),
        }
        return to_json(kept)

    @classmethod
    def from_line(cls, line: str) -> "AttemptRecord":
        """Return what to_line() made. Raises ValueError when it made nothing of the kind."""
        try:
            return cls._from_dict(json.loads(line))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("this line is no attempt") from error

    @classmethod
    def _from_dict(cls, kept: dict[str, Any]) -> "AttemptRecord":
        attempt = NewAttempt(
            id=UUID(kept["id"]),
            received_at=datetime.fromisoformat(kept["received_at"]),
            started=0,
            method=kept["method"],
            language=kept["language"],
            client_address=kept["client_address"],
            user_agent=kept["user_agent"],
            client_request_id=kept["client_request_id"],
            key_hash=bytes.fromhex(kept["key_hash"]) if kept["key_hash"] else None,
            sent=dict(kept["sent"]),
        )
        return cls(
            attempt=attempt,
            status=kept["status"],
            answered=kept["answered"],
            code=kept["code"],
            errors=tuple(FieldError.from_json(error) for error in kept["errors"]),
            duration_ms=kept["duration_ms"],
            via=kept["via"],
        )
