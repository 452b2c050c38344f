"""Creates the users of an import file, a group of rows at a time; each row is an attempt."""

from collections.abc import Sequence
from dataclasses import dataclass

from project.contract.error_codes import PROBLEMS
from project.contract.schemas import user_add_schema
from project.domain.attempts import NewAttempt
from project.domain.errors import UNAVAILABLE_ERRORS, RefusalError
from project.domain.records import AttemptRecord
from project.domain.registration import Credentials, NewUser, Registration
from project.importers import Row
from project.runtime import Runtime
from project.services import attempts, registration

Result = Credentials | RefusalError


@dataclass(slots=True)
class Line:
    """A row of an import, its attempt, and what became of it."""

    row: Row
    attempt: NewAttempt
    result: Result | None = None
    """None until PostgreSQL has decided."""


def check_row(row: Row, region: str) -> NewUser | RefusalError:
    """Return the user of a row, or its refusal. Only PostgreSQL finds conflicts."""
    try:
        if row.refusal:
            raise row.refusal
        new_user = user_add_schema(region).load(row.body)
    except RefusalError as refusal:
        return refusal
    return new_user


def decide(runtime: Runtime, import_key: str, lines: Sequence[Line]) -> None:
    """Create users and record refusals; set the results of the lines.

    Lines for which PostgreSQL is unavailable keep None.

    The idempotency key of a line is derived from `import_key` and its content, so a line that is decided again, with
    the same attempt or another one, returns the same user.
    """
    registrations: list[Registration] = []
    valid: list[Line] = []
    for line in lines:
        line.attempt.store_body(line.row.body, runtime.config.phone_region)
        checked = check_row(line.row, runtime.config.phone_region)
        if isinstance(checked, RefusalError):
            line.result = checked
        else:
            valid.append(line)
            registrations.append(Registration.of_line(line.attempt, checked, import_key))
    results = registration.register_many(runtime.database, runtime.passwords, registrations)
    for line, result in zip(valid, results, strict=True):
        if isinstance(result, Credentials | RefusalError):
            line.result = None if isinstance(result, UNAVAILABLE_ERRORS) else result
        else:
            raise result
    refused = [_record(line.attempt, line.result) for line in lines if isinstance(line.result, RefusalError)]
    attempts.record_many(runtime.database, runtime.spool, [record for record in refused if record])


def _record(attempt: NewAttempt, refusal: RefusalError) -> AttemptRecord | None:
    """Return the record to store for a refused row, or None if its transaction has stored one."""
    if refusal.recorded:
        return None
    return attempts.answered(attempt, PROBLEMS[refusal.code].status, refusal.reason, refusal.errors)
