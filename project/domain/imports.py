"""Value types of imports: files that administrators upload to create users."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from project.domain.errors import FieldError, RefusalError


class ImportState(StrEnum):
    """The state of an import. ImportRunner processes those that are `uploaded` or `running`."""

    UPLOADED = "uploaded"
    CHECKED = "checked"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"

    @property
    def is_busy(self) -> bool:
        return self in {ImportState.UPLOADED, ImportState.RUNNING}


class RowOutcome(StrEnum):
    """The outcome of a row. `existing` means that the row has the same data as a row above it."""

    CREATED = "created"
    EXISTING = "existing"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRun:
    """An import, with numbers of rows by outcome instead of the rows themselves."""

    id: UUID
    created_at: datetime
    created_by: UUID
    file_name: str
    state: ImportState
    error: Mapping[str, Any] | None
    """Code and parameters of the error if the file cannot be read, otherwise None."""
    headers: tuple[str, ...]
    fields: tuple[str | None, ...]
    """Field of each column; None for an ignored column, "" for a column without a header."""
    notes: tuple[Mapping[str, Any], ...]
    """Codes and parameters of notes about the file, such as ignored columns."""
    kid: str | None
    """ID of the secret from which the idempotency keys of the rows are derived; None before users are created."""
    credentials_at: datetime | None
    """Time at which the credentials were downloaded; None before."""
    created: int = 0
    existing: int = 0
    refused: int = 0
    pending: int = 0
    """Number of rows without an outcome."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.created + self.existing + self.refused + self.pending


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRow:
    """A row of an import as it is stored."""

    number: int
    cells: tuple[str, ...]
    body: dict[str, Any]
    fingerprint: bytes | None = None
    """NewUser.fingerprint() of the row; None for a refused or existing row."""
    outcome: RowOutcome | None = None
    """None for a row whose user is not created yet."""
    refusal: RefusalError | None = None
    """The refusal of a refused row, otherwise None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedRow:
    """A user that an import has created, with the values from which the password is derived."""

    name: str
    username: str
    phone: str | None
    email: str | None
    fingerprint: bytes
    kid: str
    is_password_changed: bool


def refusal_to_json(refusal: RefusalError) -> dict[str, Any]:
    """Return a refusal as a JSON object for the database."""
    errors = [error.as_json() for error in refusal.errors]
    return {"code": refusal.code, "variant": refusal.variant, "params": dict(refusal.params), "errors": errors}


def refusal_from_json(stored: Mapping[str, Any]) -> RefusalError:
    """Return the refusal from which refusal_to_json() made this JSON object."""
    errors = tuple(FieldError.from_json(error) for error in stored["errors"])
    return RefusalError(stored["code"], stored["variant"], errors, **stored["params"])
