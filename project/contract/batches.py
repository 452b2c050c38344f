"""Validates the lines of a bulk request, creates the users, and records the other lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from project.contract.problems import Problem, build_problem
from project.contract.schemas import user_add_schema
from project.domain.attempts import CREATED, DRY_RUN, REPLAYED, NewAttempt
from project.domain.errors import RefusalError
from project.domain.records import AttemptRecord
from project.domain.registration import Credentials, NewUser, Registration
from project.domain.strict_json import parse_line
from project.http import rate_limits
from project.importers.rows import MAX_LINE_LENGTH, line_too_long_error
from project.runtime import Runtime
from project.services import attempts, registration


@dataclass(slots=True)
class BulkLine:
    """A line of a bulk request and its result."""

    number: int
    """Number of the line from 1, or of the element of an array."""
    attempt: NewAttempt
    new_user: NewUser | None = None
    """The validated user; None if the line is invalid or exceeds a rate limit."""
    credentials: Credentials | None = None
    """The credentials of the created or replayed user, otherwise None."""
    problem: Problem | None = None
    """The problem of a refused line, otherwise None."""
    is_recorded: bool = True
    """Whether PostgreSQL or the spool has the attempt. Valid after register_lines()."""

    @property
    def code(self) -> str:
        """The code to record and to count, valid after register_lines().

        It is `created`, `replayed`, `dry_run` or the reason of the refusal.
        """
        if self.problem:
            return self.problem.reason
        if self.credentials is None:
            return DRY_RUN
        return REPLAYED if self.credentials.replayed else CREATED


def check_line(number: int, attempt: NewAttempt, sent: bytes, region: str) -> BulkLine:
    """Parse and validate a line; return it with either `new_user` or `problem`."""
    line = BulkLine(number, attempt)
    try:
        body = _parse_line(sent, number)
        attempt.store_body(body, region)
        line.new_user = user_add_schema(region).load(body)
    except RefusalError as refusal:
        line.problem = build_problem(refusal)
    return line


def _parse_line(sent: bytes, number: int) -> dict[str, Any]:
    if len(sent.rstrip(b"\r\n")) > MAX_LINE_LENGTH:
        raise line_too_long_error()
    return parse_line(sent, number)


def register_lines(runtime: Runtime, request_key: str, lines: Sequence[BulkLine], *, is_dry_run: bool = False) -> None:
    """Create the users of validated lines, record the other lines, and set all results.

    With `is_dry_run`, all lines are only recorded. The idempotency key of a line is derived from `request_key`, that
    of the request, and the line's content. If several lines have the same content, the first line creates the user and
    the other lines return the same credentials. Errors of PostgreSQL become problems of the lines.
    """
    valid = [] if is_dry_run else [line for line in lines if line.new_user and not line.problem]
    registrations = [Registration.for_line(line.attempt, line.new_user, request_key) for line in valid if line.new_user]
    results = registration.register_many(runtime.database, runtime.passwords, registrations)
    for line, result in zip(valid, results, strict=True):
        if isinstance(result, Credentials):
            line.credentials = result
        else:
            line.problem = build_problem(result)
    _record_lines(
        runtime, [line for line in lines if not line.credentials and not (line.problem and line.problem.is_recorded)]
    )


def _record_lines(runtime: Runtime, lines: Sequence[BulkLine]) -> None:
    to_record = []
    for line in lines:
        if line.code == "rate_limited" and not rate_limits.should_record_refusal():
            line.is_recorded = False
        else:
            to_record.append(line)
    records = [_build_record(line) for line in to_record]
    are_recorded = attempts.record_attempts(runtime.database, runtime.spool, records)
    for line, is_recorded in zip(to_record, are_recorded, strict=True):
        line.is_recorded = is_recorded


def _build_record(line: BulkLine) -> AttemptRecord:
    status, errors = (line.problem.status, line.problem.errors) if line.problem else (200, ())
    return attempts.build_record(line.attempt, status, line.code, errors)
