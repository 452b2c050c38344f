"""Records attempts that created no user, and maintains stored attempts.

A record that PostgreSQL does not accept goes to the spool; a record that the spool does not accept goes to the log.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Concatenate, NamedTuple, ParamSpec

from sqlalchemy import Connection

from project.database import Database, QueryError, deadline, remaining_seconds, reserve_seconds
from project.domain.attempts import NewAttempt, mask_errors
from project.domain.errors import (
    UNAVAILABLE_ERRORS,
    ClocksDifferError,
    FieldError,
    QueryTimeoutError,
    WritesRefusedError,
)
from project.domain.records import SPOOL, AttemptRecord
from project.queries.aggregates import prune_attempts
from project.queries.maintenance import Deleted, delete_expired_keys, limit_lock_wait, probe_commit
from project.queries.masks import FINISHED, mask_next_attempts, set_watermark
from project.queries.registration import insert_attempt, insert_attempts, insert_group
from project.spool import APPEND_TIMEOUT_S, DRAIN_BATCH, Intent, Spool, SpoolError, Undelivered

P = ParamSpec("P")

log = logging.getLogger(__name__)

INSERT_TIMEOUT_S = 1.0
"""Seconds within which PostgreSQL has to insert a record; after that, the record goes to the spool."""
DISK_RESERVE_S, DISK_OVERTIME_S = 0.5, 0.3
"""Seconds of a request's deadline that are reserved for writing to the spool, and seconds by which the write may exceed
the deadline."""
BATCH_LOCK_TIMEOUT_S = 0.2
"""Seconds for which a batch of records waits for a lock, usually on an attempt that another transaction writes. After
that, the batch is halved to find this attempt."""
POSTPONE_S, MAX_POSTPONE_S = 1, 10
"""Pause in seconds before the insertion of a record is retried after its first timeout, and maximum pause: each further
timeout doubles the pause. Usually the transaction that blocks the record ends soon."""
PRUNE_BATCH, PURGE_BATCH = 500, 1000
"""Maximum numbers of attempts and of idempotency keys deleted in one transaction."""
MASK_BATCH = 500
"""Maximum number of attempts masked in one transaction."""
_UNAVAILABLE_CODES = frozenset({"database_unavailable", "outcome_unknown", "overloaded"})


def write_intent(spool: Spool, attempt: NewAttempt) -> Intent | None:
    """Store an intent: if this process is killed, the attempt is recorded as interrupted.

    Spool.clear_intent() deletes the intent. Returns None, and stores nothing, if the disk was already known to be
    unusable.
    """
    return spool.write_intent(AttemptRecord.interrupted(attempt).to_masked_line())


def record_attempt(
    database: Database,
    spool: Spool,
    attempt: NewAttempt,
    *,
    status: int,
    code: str,
    errors: tuple[FieldError, ...] = (),
) -> bool:
    """Record an attempt in PostgreSQL or in the spool; return False if it is only in the log."""
    attempt_record = build_record(attempt, status, code, errors)
    is_inserted = code not in _UNAVAILABLE_CODES and _try_insert(database, attempt_record)
    return is_inserted or _try_spool(spool, attempt_record)


def build_record(attempt: NewAttempt, status: int, code: str, errors: tuple[FieldError, ...] = ()) -> AttemptRecord:
    """Build the record of an attempt for which a response with this status is sent now."""
    return AttemptRecord(
        attempt=attempt, status=status, answered=status, code=code, errors=errors, duration_ms=attempt.elapsed_ms()
    )


def record_attempts(database: Database, spool: Spool, records: Sequence[AttemptRecord]) -> list[bool]:
    """Record attempts, if possible in one transaction; return for each whether it is recorded.

    An attempt that PostgreSQL does not accept goes to the spool, as does an attempt that failed because PostgreSQL was
    unavailable. If the spool fails, too, the attempt is only logged.
    """
    direct = [one for one in records if one.code not in _UNAVAILABLE_CODES]
    failures = dict(zip((one.attempt.id for one in direct), insert_group(database, direct), strict=True))
    for failure in failures.values():
        if isinstance(failure, QueryError):
            log.error("PostgreSQL rejected an attempt record", exc_info=failure)
    return [failures.get(one.attempt.id, one) is None or _try_spool(spool, one) for one in records]


def prune_batch(database: Database, max_age: timedelta) -> int:
    """Delete a batch of attempts older than `max_age`; return their number.

    Deletes nothing if the clocks of PostgreSQL and this machine differ. Raises DatabaseUnavailableError.
    """
    deleted = delete_batch(database, prune_attempts, max_age, PRUNE_BATCH)
    _log_pruned(deleted)
    return deleted.rows if deleted else 0


def prune_all(database: Database, max_age: timedelta) -> int:
    """Delete all attempts recorded more than `max_age` ago; return their number.

    Users are kept. Uses short transactions, so that writers do not wait long and an interrupted run keeps its progress.
    Raises ClocksDifferError or the errors of write_transaction().
    """
    total = 0
    while True:
        deleted = database.write_transaction(prune_attempts, max_age, PRUNE_BATCH)
        _log_pruned(deleted)
        total += deleted.rows
        if not deleted.rows:
            return total


def _log_pruned(deleted: Deleted | None) -> None:
    if deleted and deleted.rows:
        extra = {"attempts": deleted.rows, "recorded_before": deleted.before.isoformat()}
        log.info("old attempts deleted", extra=extra)


def delete_batch(
    database: Database, delete: Callable[Concatenate[Connection, P], Deleted], *args: P.args, **kwargs: P.kwargs
) -> Deleted | None:
    """Call `delete` in a transaction without retries; return its result.

    Returns None if the clocks of PostgreSQL and this machine differ. Raises DatabaseUnavailableError.
    """
    try:
        return database.run_once(delete, *args, **kwargs)
    except ClocksDifferError as error:
        log.error("clocks differ: nothing is deleted", extra={"cause": str(error)})  # noqa: TRY400 - no defect
        return None


def purge_keys(database: Database) -> None:
    """Delete expired idempotency keys in batches.

    Deletes nothing if the clocks of PostgreSQL and this machine differ. Raises DatabaseUnavailableError.
    """
    while (deleted := delete_batch(database, delete_expired_keys, PURGE_BATCH)) and deleted.rows:
        log.info("expired keys deleted", extra={"keys": deleted.rows, "expired_before": deleted.before.isoformat()})


def mask_batch(database: Database, region: str) -> int:
    """Mask a batch of stored attempts by the current rules; return the number of attempts read.

    Returns 0 if none is left, or if another process is masking. Raises DatabaseUnavailableError.
    """
    return database.run_once(mask_next_attempts, region, MASK_BATCH)


def finish_masking(database: Database) -> None:
    """Record that all stored attempts are masked, so that mask_batch() does nothing.

    Raises DatabaseUnavailableError.
    """
    database.run_once(set_watermark, FINISHED)


def mask_all(database: Database, region: str) -> Iterator[int]:
    """Mask all stored attempts by the current rules; yield the size of each batch.

    Uses short transactions, so that the service may run at the same time. Can be interrupted and repeated. Raises the
    errors of write_transaction().
    """
    database.write_transaction(set_watermark, 0)
    while read := database.write_transaction(mask_next_attempts, region, MASK_BATCH, wait=True):
        yield read


def _try_insert(database: Database, attempt_record: AttemptRecord) -> bool:
    try:
        with reserve_seconds(DISK_RESERVE_S), deadline(INSERT_TIMEOUT_S):
            insert_attempt(database, attempt_record)
    except UNAVAILABLE_ERRORS:
        return False
    except Exception:  # after any failure the record goes to the spool
        log.exception("PostgreSQL rejected an attempt record")
        return False
    return True


def _try_spool(spool: Spool, attempt_record: AttemptRecord) -> bool:
    left = remaining_seconds()
    timeout_s = APPEND_TIMEOUT_S if left is None else max(0.0, left) + DISK_OVERTIME_S
    try:
        spool.append(replace(attempt_record, via=SPOOL).to_masked_line(), timeout_s)
    except SpoolError as error:
        log.error(  # noqa: TRY400 - the cause says more than a traceback
            "attempt not recorded",
            extra={
                "attempt_id": str(attempt_record.attempt.id),
                "status": attempt_record.status,
                "code": attempt_record.code,
                "errors": [{"field": one.field, "code": one.code} for one in mask_errors(attempt_record.errors)],
                "cause": str(error),
            },
        )
        return False
    return True


class Postponement(NamedTuple):
    """The next try to insert a record."""

    retry_at: float
    """Time of the try by time.monotonic()."""
    pause_s: float
    """Pause in seconds before the try."""


class Delivery:
    """Inserts spooled records into PostgreSQL.

    A record that PostgreSQL rejects is quarantined, and a record that times out is postponed, so that neither blocks
    the other records.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batch_size = DRAIN_BATCH
        self._postponed: dict[str, Postponement] = {}
        """Postponed record -> its next try."""
        self._unwritten: list[str] = []
        """The records of the last batch if PostgreSQL could not write them, otherwise empty."""

    def drain(self, spool: Spool) -> int:
        """Insert the spooled records of this process; return how many left the spool.

        Raises DatabaseUnavailableError, or SpoolError or OSError if the disk is unusable.
        """
        return spool.drain(self._deliver)

    def drain_orphans(self, spool: Spool) -> int:
        """Insert the spooled records of dead processes; return how many left the spool.

        Raises DatabaseUnavailableError, or OSError if the disk fails.
        """
        return spool.drain_orphans(self._deliver)

    def probe(self) -> None:
        """Write to PostgreSQL; success closes the breaker. Raises DatabaseUnavailableError.

        If PostgreSQL could not write the last batch, writes the batch again: a server without disk space still accepts
        an empty write.
        """
        unwritten, self._unwritten = self._unwritten, []
        if unwritten:
            self._insert(unwritten)
        else:
            self._database.run_once(probe_commit)

    def _deliver(self, records: list[str]) -> Undelivered:
        now = time.monotonic()
        postponed = [record for record in records if record in self._postponed]
        waiting = [record for record in postponed if self._postponed[record].retry_at > now]
        due = [record for record in postponed if self._postponed[record].retry_at <= now]
        undelivered = [self._insert_all([record for record in records if record not in self._postponed])]
        undelivered += [self._insert_all([record]) for record in due]  # one at a time: each may time out again
        rejected = [record for one in undelivered for record in one.rejected]
        timed_out = [record for one in undelivered for record in one.postponed]
        return Undelivered(rejected, [*waiting, *timed_out])

    def _insert_all(self, records: Sequence[str]) -> Undelivered:
        """Insert records in batches. A failure halves the batch size and a success doubles it."""
        rejected, postponed = [], []
        while records:
            batch = records[: self._batch_size]
            try:
                self._insert(batch)
                self._batch_size = min(DRAIN_BATCH, 2 * self._batch_size)
            except (QueryError, ValueError, QueryTimeoutError) as error:
                if isinstance(error, QueryTimeoutError):
                    self._database.run_once(probe_commit)  # raises if PostgreSQL itself is unavailable
                if len(batch) > 1:
                    self._batch_size = len(batch) // 2
                    continue
                if isinstance(error, QueryTimeoutError):
                    log.warning("attempt record postponed", extra={"cause": error.cause})
                    self._postpone(batch[0])
                    postponed.append(batch[0])
                else:
                    log.exception("attempt record quarantined")
                    self._postponed.pop(batch[0], None)
                    rejected.append(batch[0])
            records = records[len(batch) :]
        return Undelivered(rejected, postponed)

    def _insert(self, records: Sequence[str]) -> None:
        try:
            self._database.run_once(_insert_batch, [AttemptRecord.from_line(line) for line in records])
        except WritesRefusedError:
            self._unwritten = list(records)
            raise
        for record in records:
            self._postponed.pop(record, None)

    def _postpone(self, record: str) -> None:
        earlier = self._postponed.get(record)
        pause_s = min(2 * earlier.pause_s, MAX_POSTPONE_S) if earlier else POSTPONE_S
        self._postponed[record] = Postponement(time.monotonic() + pause_s, pause_s)


def _insert_batch(connection: Connection, records: Sequence[AttemptRecord]) -> None:
    if len(records) > 1:
        limit_lock_wait(connection, BATCH_LOCK_TIMEOUT_S)
    insert_attempts(connection, records)
