"""Keeping attempts that end without a user: in PostgreSQL, else on disk until it can be there, else in the log."""

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from project.database import Database, QueryError, deadline
from project.domain.attempts import NewAttempt
from project.domain.errors import DatabaseUnavailableError, FieldError, OutcomeUnknownError, OverloadedError
from project.domain.records import SPOOL, AttemptRecord
from project.queries.aggregates import prune
from project.queries.registration import insert_attempt, insert_attempts
from project.services.clock import elapsed_ms
from project.spool import Spool, SpoolError

log = logging.getLogger(__name__)

RECORD_S = 1.0
"""Seconds that PostgreSQL is given to take a record: the disk takes it at once."""
PRUNE_BATCH = 500
"""Attempts that are forgotten in one transaction."""
_AWAY_CODES = frozenset({"database_unavailable", "outcome_unknown", "overloaded"})


def begin(spool: Spool, attempt: NewAttempt) -> int | None:
    """Note that an attempt is under way, for the case that this process dies; return the place of the note."""
    return spool.begin(AttemptRecord.interrupted(attempt).to_line())


def record(
    database: Database,
    spool: Spool,
    attempt: NewAttempt,
    *,
    status: int,
    code: str,
    errors: tuple[FieldError, ...] = (),
) -> bool:
    """Keep the end of an attempt before it is answered. Tell whether that worked: if not, it is in the log."""
    kept = AttemptRecord(
        attempt=attempt,
        status=status,
        answered=status,
        code=code,
        errors=errors,
        duration_ms=elapsed_ms(attempt),
    )
    return (code not in _AWAY_CODES and _is_in_table(database, kept)) or _is_on_disk(spool, kept)


def drain(database: Database, spool: Spool) -> int:
    """Bring what this process keeps on disk into the table; return how much. Raises DatabaseUnavailableError."""
    return spool.drain(lambda lines: _deliver(database, lines))


def drain_orphans(database: Database, spool: Spool) -> int:
    """Bring what killed processes left on disk into the table; return how much. Raises DatabaseUnavailableError."""
    return spool.drain_orphans(lambda lines: _deliver(database, lines))


def forget_some(database: Database, keep: timedelta) -> int:
    """Forget a few attempts that are older than this, if there are any; return how many."""
    return database.run_once(prune, datetime.now(UTC) - keep, PRUNE_BATCH)


def forget_all(database: Database, before: datetime) -> int:
    """Forget all attempts received before a moment, little by little; return how many. Raises DatabaseUnavailableError.

    Their users stay. Nobody who writes has to wait, and killed in between it has done a part for good.
    """
    total = 0
    while gone := database.write_transaction(prune, before, PRUNE_BATCH):
        total += gone
    return total


def _is_in_table(database: Database, kept: AttemptRecord) -> bool:
    try:
        with deadline(RECORD_S):
            insert_attempt(database, kept)
    except (DatabaseUnavailableError, OutcomeUnknownError, OverloadedError):
        return False
    except QueryError:
        log.exception("PostgreSQL rejected an attempt record")
        return False
    return True


def _is_on_disk(spool: Spool, kept: AttemptRecord) -> bool:
    try:
        spool.append(replace(kept, via=SPOOL).to_line())
    except SpoolError as error:
        log.error(  # noqa: TRY400 - the traceback tells nothing, the attempt does
            "attempt not recorded",
            extra={
                "attempt_id": str(kept.attempt.id),
                "status": kept.status,
                "code": kept.code,
                "errors": [{"field": one.field, "code": one.code} for one in kept.errors],
                "cause": str(error),
            },
        )
        return False
    return True


def _deliver(database: Database, lines: list[str]) -> list[str]:
    """Record the attempts of these lines, each once, however often it is asked; return the lines that cannot be."""
    try:
        database.run_once(insert_attempts, [AttemptRecord.from_line(line) for line in lines])
    except (QueryError, ValueError):
        if len(lines) == 1:
            log.exception("attempt record quarantined")
            return lines
        middle = len(lines) // 2
        return _deliver(database, lines[:middle]) + _deliver(database, lines[middle:])
    return []
