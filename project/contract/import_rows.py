"""Creates users from the rows of an import, and records each row as an attempt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from project.contract.error_codes import PROBLEMS
from project.contract.schemas import user_add_schema
from project.domain.attempts import NewAttempt
from project.domain.errors import UNAVAILABLE_ERRORS, FieldError, RefusalError, ValidationFailedError
from project.domain.records import AttemptRecord
from project.domain.registration import Credentials, NewUser, Registration
from project.importers import Row
from project.runtime import Runtime
from project.services import attempts, registration

Result = Credentials | RefusalError


@dataclass(slots=True)
class ImportLine:
    """A row of an import with its attempt and result."""

    row: Row
    attempt: NewAttempt
    result: Result | None = None
    """None until the user is created or refused, also if PostgreSQL was unavailable."""


def check_row(row: Row, region: str) -> NewUser | RefusalError:
    """Validate a row; return its user or the refusal. PostgreSQL checks uniqueness later."""
    try:
        if row.refusal:
            raise row.refusal
        new_user = user_add_schema(region).load(row.body)
    except ValidationFailedError as refusal:
        return ValidationFailedError(tuple(map(_mark_missing_header, refusal.errors)))
    except RefusalError as refusal:
        return refusal
    return new_user


def _mark_missing_header(error: FieldError) -> FieldError:
    """Return an error, with the variant `no_header` if it is about a column without header."""
    is_unnamed = (error.code, error.variant) == ("unknown_field", "") and error.field.startswith("column ")
    return replace(error, variant="no_header") if is_unnamed else error


def register_rows(runtime: Runtime, import_key: str, lines: Sequence[ImportLine]) -> None:
    """Create the users of the lines, record refused lines, and set the result of each line.

    If PostgreSQL is unavailable for a line, the result stays None. Raises QueryError if PostgreSQL rejects a statement.
    The idempotency key of a line is derived from `import_key` and the line's content, so that registering a line again
    within 24 hours returns the same user.
    """
    registrations: list[Registration] = []
    valid: list[ImportLine] = []
    for line in lines:
        line.attempt.store_body(line.row.body, runtime.config.phone_region)
        checked = check_row(line.row, runtime.config.phone_region)
        if isinstance(checked, RefusalError):
            line.result = checked
        else:
            valid.append(line)
            registrations.append(Registration.for_line(line.attempt, checked, import_key))
    results = registration.register_many(runtime.database, runtime.passwords, registrations)
    for line, result in zip(valid, results, strict=True):
        if isinstance(result, Credentials | RefusalError):
            line.result = None if isinstance(result, UNAVAILABLE_ERRORS) else result
        else:
            raise result
    refused = [_build_record(line.attempt, line.result) for line in lines if isinstance(line.result, RefusalError)]
    attempts.record_attempts(runtime.database, runtime.spool, [record for record in refused if record])


def _build_record(attempt: NewAttempt, refusal: RefusalError) -> AttemptRecord | None:
    """Return the record of a refused row; None if PostgreSQL recorded the row when refusing it."""
    if refusal.recorded:
        return None
    return attempts.build_record(attempt, PROBLEMS[refusal.code].status, refusal.reason, refusal.errors)
