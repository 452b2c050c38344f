"""Record attempts that create no user: in PostgreSQL, else in the spool, else in the log."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from project.database import Database, QueryError, deadline
from project.domain.attempts import NewAttempt
from project.domain.errors import DatabaseUnavailableError, FieldError, OutcomeUnknownError, OverloadedError
from project.domain.records import SPOOL, AttemptRecord
from project.queries.aggregates import prune
from project.queries.masks import FINISHED, mask_again, set_watermark
from project.queries.registration import insert_attempt, insert_attempts
from project.services.clock import elapsed_ms
from project.spool import Spool, SpoolError

log = logging.getLogger(__name__)

INSERT_S = 1.0
"""Time limit for PostgreSQL in seconds: the spool takes the record at once."""
PRUNE_BATCH = 500
"""Attempts deleted in one transaction."""
MASK_BATCH = 500
"""Attempts masked again in one transaction."""
_UNAVAILABLE_CODES = frozenset({"database_unavailable", "outcome_unknown", "overloaded"})


def write_intent(spool: Spool, attempt: NewAttempt) -> int | None:
    """Note that an attempt is in progress, in case this process is killed; return the slot for Spool.clear_intent()."""
    return spool.write_intent(AttemptRecord.interrupted(attempt).masked().to_line())


def record(
    database: Database,
    spool: Spool,
    attempt: NewAttempt,
    *,
    status: int,
    code: str,
    errors: tuple[FieldError, ...] = (),
) -> bool:
    """Record the outcome of an attempt before the response is sent. Return False if only the log has it."""
    attempt_record = AttemptRecord(
        attempt=attempt, status=status, answered=status, code=code, errors=errors, duration_ms=elapsed_ms(attempt)
    )
    is_inserted = code not in _UNAVAILABLE_CODES and _try_insert(database, attempt_record)
    return is_inserted or _try_spool(spool, attempt_record)


def drain(database: Database, spool: Spool) -> int:
    """Insert the spooled records of this process; return their number. Raises DatabaseUnavailableError."""
    return spool.drain(lambda records: _deliver(database, records))


def drain_orphans(database: Database, spool: Spool) -> int:
    """Insert the spooled records of dead processes; return their number. Raises DatabaseUnavailableError."""
    return spool.drain_orphans(lambda records: _deliver(database, records))


def prune_batch(database: Database, max_age: timedelta) -> int:
    """Delete a batch of attempts older than `max_age`; return how many."""
    return database.run_once(prune, datetime.now(UTC) - max_age, PRUNE_BATCH)


def prune_all(database: Database, before: datetime) -> int:
    """Delete all attempts received before `before`; return how many. Raises DatabaseUnavailableError.

    Users stay. Works in short transactions: writers do not wait, and an interrupted run keeps its progress.
    """
    total = 0
    while deleted := database.write_transaction(prune, before, PRUNE_BATCH):
        total += deleted
    return total


def mask_batch(database: Database, region: str) -> int:
    """Mask a batch of stored attempts again; return how many were read, 0 if none is left."""
    return database.run_once(mask_again, region, MASK_BATCH)


def finish_masking(database: Database) -> None:
    """Record that no stored attempt needs new masks any more."""
    database.run_once(set_watermark, FINISHED)


def mask_all(database: Database, region: str) -> Iterator[int]:
    """Mask all stored attempts again; yield the size of each batch. Raises DatabaseUnavailableError.

    Works in short transactions beside the running service; a repeated run changes nothing.
    """
    database.write_transaction(set_watermark, 0)
    while read := database.write_transaction(mask_again, region, MASK_BATCH, wait=True):
        yield read


def _try_insert(database: Database, attempt_record: AttemptRecord) -> bool:
    try:
        with deadline(INSERT_S):
            insert_attempt(database, attempt_record)
    except (DatabaseUnavailableError, OutcomeUnknownError, OverloadedError):
        return False
    except QueryError:
        log.exception("PostgreSQL rejected an attempt record")
        return False
    return True


def _try_spool(spool: Spool, attempt_record: AttemptRecord) -> bool:
    attempt_record = attempt_record.masked()
    try:
        spool.append(replace(attempt_record, via=SPOOL).to_line())
    except SpoolError as error:
        log.error(  # noqa: TRY400 - the cause says more than a traceback
            "attempt not recorded",
            extra={
                "attempt_id": str(attempt_record.attempt.id),
                "status": attempt_record.status,
                "code": attempt_record.code,
                "errors": [{"field": one.field, "code": one.code} for one in attempt_record.errors],
                "cause": str(error),
            },
        )
        return False
    return True


def _deliver(database: Database, records: list[str]) -> list[str]:
    """Insert records idempotently; return those that can never be inserted."""
    try:
        database.run_once(insert_attempts, [AttemptRecord.from_line(line) for line in records])
    except (QueryError, ValueError):
        if len(records) == 1:
            log.exception("attempt record quarantined")
            return records
        middle = len(records) // 2
        return _deliver(database, records[:middle]) + _deliver(database, records[middle:])
    return []
