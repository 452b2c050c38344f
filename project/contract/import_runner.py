"""Validates uploaded files and creates their users, in a background thread (docs/adr/0034)."""

import io
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any
from uuid import UUID

from flask import Flask, current_app

from project.contract.import_rows import ImportLine, check_row, register_rows
from project.domain.attempts import NewAttempt
from project.domain.errors import RefusalError
from project.domain.imports import ImportRun, ImportState, RowOutcome, StoredRow, refusal_to_json
from project.domain.registration import Credentials
from project.importers import Columns, FileError, Row, open_source
from project.queries import imports as queries
from project.runtime import Runtime, get_runtime
from project.services.registration import MAX_GROUP_SIZE

log = logging.getLogger(__name__)

SUFFIXES = (".csv", ".xlsx")
MAX_ROWS, MAX_FILE_BYTES, MAX_UNPACKED_BYTES = 10_000, 4 * 2**20, 16 * 2**20
"""Maximum number of rows of a file, size of a file in bytes, and size of an unpacked workbook in bytes.

Reading takes up to 40 times the unpacked size in memory. MAX_ROWS rows of 30 columns unpack to 14 MiB (measured)."""
POLL_S = 2.0
"""Seconds between queries for unfinished imports, such as those of a process that died."""
EXPIRE_EVERY_S = 600
"""Seconds between deletions of imports that are older than 24 hours."""


class ImportRunner:
    """A thread that processes one import at a time. The first call of wake() starts the thread.

    If a process dies, another process continues its import: rows have idempotency keys, so that no user is created
    twice, and the first outcome of a row is kept.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._awake = threading.Event()
        self._lock = threading.Lock()
        self._stopping = False
        self._pid = 0
        self._expire_at = 0.0

    def wake(self) -> None:
        """Start the thread, once per process, and make it query for imports at once.

        If the thread cannot be started, only logs the cause; the next call tries again.
        """
        with self._lock:
            if self._pid != os.getpid():
                self._awake = threading.Event()
                try:
                    threading.Thread(target=self._run, name="imports", daemon=True).start()
                except RuntimeError as error:  # no thread available: the next call tries again
                    log.error("imports not started", extra={"cause": str(error)})  # noqa: TRY400 - no defect
                    return
                self._pid = os.getpid()
        self._awake.set()

    def stop(self) -> None:
        """Make the thread end after the current group of rows or the current file check.

        Does not wait for the thread. Another process, or the next start, continues the import.
        """
        self._stopping = True
        self._awake.set()

    def _run(self) -> None:
        while not self._stopping:
            try:
                while not self._stopping and self.process_next():
                    pass
            except RefusalError:
                log.warning("imports wait for PostgreSQL")
            except Exception:
                log.exception("import failed")
            self._awake.wait(POLL_S)
            self._awake.clear()

    def process_next(self) -> bool:
        """Delete some expired imports, or process the next import; return whether there was work.

        Returns False while the breaker is open. Raises RefusalError if PostgreSQL is unavailable, and QueryError if it
        rejects a statement.
        """
        database = self._runtime.database
        if database.breaker.is_open:
            return False
        if time.monotonic() >= self._expire_at:
            if database.run_once(queries.delete_expired_imports):
                return True
            self._expire_at = time.monotonic() + EXPIRE_EVERY_S
        import_id = database.run_once(queries.reserve_import)
        if import_id is None:
            return False
        run = database.run_once(queries.find_import, import_id)
        if run is not None and run.state is ImportState.UPLOADED:
            self._check_file(import_id)
        elif run is not None:
            self._create_users(run)
        return True

    def _check_file(self, import_id: UUID) -> None:
        """Validate the rows of an uploaded file, and store the rows or why the file cannot be read.

        Does nothing if the import has been deleted or checked.
        """
        database = self._runtime.database
        found = database.run_once(queries.find_content, import_id)
        run = database.run_once(queries.find_import, import_id)
        if found is None or run is None:
            return
        content, ignore_unknown = found
        try:
            columns = Columns(ignore_unknown=ignore_unknown)
            with open_source(io.BytesIO(content), run.file_name, columns, SUFFIXES, MAX_UNPACKED_BYTES) as source:
                for rows in _batches(self._check_rows(_limit_rows(source.rows)), 10 * MAX_GROUP_SIZE):
                    database.write_transaction(queries.add_rows, import_id, rows)
                notes = [{"code": note.code, "params": dict(note.params)} for note in source.notes]
                database.write_transaction(queries.finish_check, import_id, source.headers, source.fields, notes)
        except FileError as error:
            reason: dict[str, Any] = {"code": error.code, "params": error.params}
            database.write_transaction(queries.fail_import, import_id, reason)

    def _check_rows(self, rows: Iterable[Row]) -> Iterator[StoredRow]:
        fingerprints: set[bytes] = set()
        for row in rows:
            checked = check_row(row, self._runtime.config.phone_region)
            if isinstance(checked, RefusalError):
                yield StoredRow(
                    number=row.number, cells=row.cells, body={}, outcome=RowOutcome.REFUSED, refusal=checked
                )
                continue
            fingerprint = checked.fingerprint()
            if fingerprint in fingerprints:
                yield StoredRow(number=row.number, cells=(), body={}, outcome=RowOutcome.EXISTING)
                continue
            fingerprints.add(fingerprint)
            yield StoredRow(number=row.number, cells=row.cells, body=row.body, fingerprint=fingerprint)

    def _create_users(self, run: ImportRun) -> None:
        """Create the users of the rows that have no outcome yet, then finish the import.

        Leaves the import to another process if the thread is stopping, or if the secret of the import is not configured
        here. Raises RefusalError if PostgreSQL is unavailable, and QueryError if it rejects a statement.
        """
        database = self._runtime.database
        try:
            import_key = self._runtime.passwords.derive_import_key(str(run.id), run.kid)
        except KeyError:  # during a rotation of the secret, another instance may still have it
            log.error("the secret of an import is not configured", extra={"import_id": str(run.id)})  # noqa: TRY400 - no defect
            return
        while rows := database.run_once(queries.find_pending_rows, run.id, MAX_GROUP_SIZE):
            if self._stopping:
                database.run_once(queries.release_import, run.id)
                return
            lines = [ImportLine(Row(row.number, row.cells, row.body, None, 0), self._new_attempt(run)) for row in rows]
            register_rows(self._runtime, import_key, lines)
            outcomes = [_outcome_columns(line) for line in lines if line.result]
            database.write_transaction(queries.record_outcomes, run.id, outcomes)
            if len(outcomes) < len(lines):
                raise RefusalError("database_unavailable")
        database.write_transaction(queries.finish_import, run)

    def _new_attempt(self, run: ImportRun) -> NewAttempt:
        language = self._runtime.config.default_language
        return NewAttempt.without_request("POST", language, "import", client_request_id=str(run.id))


def init_app(app: Flask) -> None:
    """Create the import runner of an application, which starts and stops with each process."""
    runtime = get_runtime(app)
    runner = app.extensions["import_runner"] = ImportRunner(runtime)
    runtime.on_start.append(runner.wake)
    runtime.on_stop.append(runner.stop)


def get_import_runner() -> ImportRunner:
    """Return the import runner of the current application."""
    runner: ImportRunner = current_app.extensions["import_runner"]
    return runner


def _outcome_columns(line: ImportLine) -> dict[str, Any]:
    """Return the columns that store the outcome of a row.

    A replay is stored as `created`, because it means that this import created the user, but could not store that: the
    process died or PostgreSQL became unavailable.
    """
    match line.result:
        case Credentials(user=user, kid=kid):
            return {"number": line.row.number, "outcome": RowOutcome.CREATED, "user_id": str(user.id), "kid": kid}
        case RefusalError() as refusal:
            stored = refusal_to_json(refusal)
            return {"number": line.row.number, "outcome": RowOutcome.REFUSED, "refusal": stored}
    raise TypeError(line.result)


def _limit_rows(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows. Raises FileError if there are no rows or more than MAX_ROWS."""
    number = 0
    for number, row in enumerate(rows, start=1):
        if number > MAX_ROWS:
            raise FileError("too_many_rows", limit=MAX_ROWS)
        yield row
    if not number:
        raise FileError("no_rows")


def _batches(rows: Iterator[StoredRow], size: int) -> Iterator[list[StoredRow]]:
    while batch := list(islice(rows, size)):
        yield batch
