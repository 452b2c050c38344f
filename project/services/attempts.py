"""Record attempts that create no user: in PostgreSQL, else in the spool, else in the log."""

import logging
from dataclasses import replace
from datetime import datetime, timedelta

from project.database import Database, QueryError, deadline
from project.domain.attempts import NewAttempt
from project.domain.errors import (
    ClocksDifferError,
    DatabaseUnavailableError,
    FieldError,
    OutcomeUnknownError,
    OverloadedError,
)
from project.domain.records import SPOOL, AttemptRecord
from project.queries.aggregates import prune
from project.queries.maintenance import check_clocks, delete_expired_keys
from project.queries.registration import insert_attempt, insert_attempts
from project.services.clock import elapsed_ms
from project.spool import Spool, SpoolError

log = logging.getLogger(__name__)

INSERT_S = 1.0
"""Time limit for PostgreSQL in seconds: the spool takes the record at once."""
PRUNE_BATCH, PURGE_BATCH = 500, 1000
"""Attempts and idempotency keys deleted in one transaction."""
_UNAVAILABLE_CODES = frozenset({"database_unavailable", "outcome_unknown", "overloaded"})


def write_intent(spool: Spool, attempt: NewAttempt) -> int | None:
    """Note an attempt in case this process is killed; return the slot for clear_intent()."""
    return spool.write_intent(AttemptRecord.interrupted(attempt).to_line())


def record(
    database: Database,
    spool: Spool,
    attempt: NewAttempt,
    *,
    status: int,
    code: str,
    errors: tuple[FieldError, ...] = (),
) -> bool:
    """Record an attempt before the response is sent; return False if only the log has it."""
    attempt_record = AttemptRecord(
        attempt=attempt, status=status, answered=status, code=code, errors=errors, duration_ms=elapsed_ms(attempt)
    )
    is_inserted = code not in _UNAVAILABLE_CODES and _try_insert(database, attempt_record)
    return is_inserted or _try_spool(spool, attempt_record)


def drain(database: Database, spool: Spool) -> int:
    """Insert spooled records of this process; return how many. Raises DatabaseUnavailableError."""
    return spool.drain(lambda records: _deliver(database, records))


def drain_orphans(database: Database, spool: Spool) -> int:
    """Insert spooled records of the dead; return how many. Raises DatabaseUnavailableError."""
    return spool.drain_orphans(lambda records: _deliver(database, records))


def prune_batch(database: Database, max_age: timedelta) -> int:
    """Delete a batch of attempts older than `max_age`; return how many, 0 if the clocks differ."""
    try:
        deleted, before = database.run_once(prune, max_age, PRUNE_BATCH)
    except ClocksDifferError as error:
        _log_clocks(error)
        return 0
    _log_pruned(deleted, before)
    return deleted


def prune_all(database: Database, max_age: timedelta) -> int:
    """Delete all attempts recorded more than `max_age` ago; return how many.

    Users stay. Works in short transactions: writers do not wait, and an interrupted run keeps its progress. Raises
    DatabaseUnavailableError or ClocksDifferError.
    """
    total = 0
    while True:
        deleted, before = database.write_transaction(prune, max_age, PRUNE_BATCH)
        _log_pruned(deleted, before)
        total += deleted
        if not deleted:
            return total


def _log_pruned(deleted: int, before: datetime) -> None:
    if deleted:
        log.info("old attempts deleted", extra={"attempts": deleted, "recorded_before": before.isoformat()})


def _log_clocks(error: ClocksDifferError) -> None:
    log.error("clocks differ: nothing is deleted", extra={"cause": str(error)})


def purge_keys(database: Database) -> None:
    """Delete expired idempotency keys in batches, none if the clocks differ.

    Raises DatabaseUnavailableError.
    """
    try:
        before = database.run_once(check_clocks)
    except ClocksDifferError as error:
        _log_clocks(error)
        return
    total, deleted = 0, PURGE_BATCH
    while deleted == PURGE_BATCH:
        deleted = database.run_once(delete_expired_keys, PURGE_BATCH)
        total += deleted
    if total:
        log.info("expired keys deleted", extra={"keys": total, "expired_before": before.isoformat()})


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
