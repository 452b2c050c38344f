"""Queries of imports."""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, text, update

from project.domain.audit import Action, NewEntry
from project.domain.imports import (
    CreatedRow,
    ImportRun,
    ImportState,
    RowOutcome,
    StoredRow,
    refusal_from_json,
    refusal_to_json,
)
from project.models import Import, ImportRow, User
from project.queries.audit import add_entry, has_entry

RESERVED_UNTIL = text("now() + interval '15 seconds'")
"""End of a new reservation of an import by a process, which renews it with every group of rows. If the process dies,
another process reserves the import after this time."""
EXPIRED_BEFORE = text("now() - interval '24 hours'")
"""Imports created before this time are deleted. The idempotency keys of their rows have the same lifetime."""
EXPIRED_BATCH = 10
"""Maximum number of imports deleted in one transaction. An import has up to 10,000 rows."""
_COUNTS = {field.name for field in fields(ImportRun)} & {"created", "existing", "refused", "pending"}
_COLUMNS = tuple(getattr(Import, one.name).label(one.name) for one in fields(ImportRun) if one.name not in _COUNTS)
_ADD_ROWS = text("""
    insert into import_rows (import_id, number, cells, body, fingerprint, outcome, refusal)
    select :import_id, number, cells, body, decode(fingerprint, 'hex'), outcome, refusal
      from jsonb_to_recordset(cast(:rows as jsonb)) as new_row (
        number integer, cells text[], body jsonb, fingerprint text, outcome text, refusal jsonb
      )
    on conflict do nothing
""")
_RECORD_OUTCOMES = text("""
    update import_rows r
       set outcome = d.outcome, refusal = d.refusal, user_id = d.user_id, kid = d.kid,
           cells = case when d.refusal is null then null else cells end,
           body = case when d.refusal is null then null else body end
      from jsonb_to_recordset(cast(:rows as jsonb)) as d (
        number integer, outcome text, refusal jsonb, user_id uuid, kid text
      )
     where r.import_id = :import_id and r.number = d.number and r.outcome is null
""")


def add_import(
    connection: Connection, import_id: UUID, by: UUID, file_name: str, content: bytes, *, ignore_unknown: bool
) -> None:
    """Insert an import with its uploaded file."""
    values = {"id": import_id, "created_by": by, "file_name": file_name, "content": content}
    connection.execute(insert(Import).values(values | {"ignore_unknown": ignore_unknown}))


def reserve_import(connection: Connection) -> UUID | None:
    """Reserve the oldest import that waits for a process; return its ID, or None if none waits."""
    is_free = func.coalesce(Import.claimed_until, func.now()) <= func.now()
    waiting = (
        select(Import.id)
        .where(Import.state.in_((ImportState.UPLOADED, ImportState.RUNNING)), is_free)
        .order_by(Import.created_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    reserved = update(Import).where(Import.id == waiting.scalar_subquery()).values(claimed_until=RESERVED_UNTIL)
    return connection.execute(reserved.returning(Import.id)).scalar()


def find_content(connection: Connection, import_id: UUID) -> tuple[bytes, bool] | None:
    """Return the file of an import, and whether unknown columns are ignored.

    Returns None if the file or the import was deleted: a file is deleted when it has been checked.
    """
    query = select(Import.content, Import.ignore_unknown).where(Import.id == import_id, Import.content.is_not(None))
    row = connection.execute(query).one_or_none()
    return None if row is None else (bytes(row[0] or b""), row[1])


def add_rows(connection: Connection, import_id: UUID, rows: Sequence[StoredRow]) -> None:
    """Renew the reservation and insert rows. Idempotent: existing rows are skipped.

    Does nothing if another process has finished the check.
    """
    if not _renew_reservation(connection, import_id, ImportState.UPLOADED):
        return
    values = [
        {
            "number": row.number,
            "cells": row.cells,
            "body": row.body,
            "fingerprint": row.fingerprint and row.fingerprint.hex(),
            "outcome": row.outcome,
            "refusal": row.refusal and refusal_to_json(row.refusal),
        }
        for row in rows
    ]
    connection.execute(_ADD_ROWS, {"import_id": import_id, "rows": _json(values)})


def finish_check(
    connection: Connection,
    import_id: UUID,
    headers: Sequence[str],
    columns: Sequence[str | None],
    notes: Sequence[dict[str, Any]],
) -> None:
    """Record that all rows are checked; delete the file.

    Does nothing if another process has finished the check.
    """
    values = {"headers": list(headers), "fields": list(columns), "notes": list(notes)}
    _change_state(connection, import_id, ImportState.UPLOADED, state=ImportState.CHECKED, content=None, **values)


def fail_import(connection: Connection, import_id: UUID, error: dict[str, Any]) -> None:
    """Record that the file of an import cannot be read; delete the file and the rows.

    Does nothing if another process, perhaps of another version, has finished the check.
    """
    if _change_state(connection, import_id, ImportState.UPLOADED, state=ImportState.FAILED, content=None, error=error):
        connection.execute(delete(ImportRow).where(ImportRow.import_id == import_id))


def start_import(connection: Connection, import_id: UUID, kid: str) -> bool:
    """Set a checked import to running; do nothing and return False in any other state."""
    return _change_state(connection, import_id, ImportState.CHECKED, state=ImportState.RUNNING, kid=kid)


def find_pending_rows(connection: Connection, import_id: UUID, limit: int) -> list[StoredRow]:
    """Return the first `limit` rows that have no outcome, in the order of the file."""
    return _find_rows(connection, import_id, limit, None)


def record_outcomes(connection: Connection, import_id: UUID, outcomes: Sequence[dict[str, Any]]) -> None:
    """Store outcomes of rows; delete the data of rows that are not refused.

    The first outcome of a row is kept. Renews the reservation if the import is running.
    """
    connection.execute(_RECORD_OUTCOMES, {"import_id": import_id, "rows": _json(outcomes)})
    _renew_reservation(connection, import_id, ImportState.RUNNING)


def finish_import(connection: Connection, run: ImportRun) -> None:
    """Set a running import to done, and write an audit entry. Does nothing in any other state."""
    created = _count_outcomes(connection, [run.id]).get(run.id, {}).get(RowOutcome.CREATED, 0)
    details: dict[str, str | int] = {"name": run.file_name, "created": created}
    entry = NewEntry.by_user(Action.IMPORTED, run.created_by, details=details)
    if _change_state(connection, run.id, ImportState.RUNNING, state=ImportState.DONE, finished_at=func.now()):
        add_entry(connection, entry)


def find_import(connection: Connection, import_id: UUID) -> ImportRun | None:
    """Return an import with its counts; None if it does not exist."""
    row = connection.execute(select(*_COLUMNS).where(Import.id == import_id)).one_or_none()
    return (
        None if row is None else _import_run(row._mapping, _count_outcomes(connection, [import_id]).get(import_id, {}))
    )


def find_imports(connection: Connection) -> list[ImportRun]:
    """Return the newest 100 imports with their counts, newest first."""
    rows = connection.execute(select(*_COLUMNS).order_by(Import.created_at.desc()).limit(100)).all()
    counts = _count_outcomes(connection, [row.id for row in rows])
    return [_import_run(row._mapping, counts.get(row.id, {})) for row in rows]


def find_refused_rows(connection: Connection, import_id: UUID, limit: int | None = None) -> list[StoredRow]:
    """Return the first `limit` refused rows in the order of the file; None means all."""
    return _find_rows(connection, import_id, limit, RowOutcome.REFUSED)


def download_credentials(connection: Connection, import_id: UUID, entry: NewEntry) -> list[CreatedRow] | None:
    """Return the created users of an import, with the values from which passwords are derived.

    Writes `entry`, the audit entry of this download. Returns None if the import is not done or its credentials have
    been downloaded. Idempotent: a retry finds its own entry.
    """
    not_downloaded = update(Import).where(Import.id == import_id, Import.credentials_at.is_(None))
    downloaded = not_downloaded.where(Import.state == ImportState.DONE).values(credentials_at=func.now())
    if connection.execute(downloaded.returning(Import.id)).scalar() is None and not has_entry(connection, entry):
        return None
    add_entry(connection, entry)
    columns = (User.name, User.username, User.phone, User.email, ImportRow.fingerprint, ImportRow.kid)
    query = (
        select(*columns, User.password_changed_at.is_not(None).label("is_password_changed"))
        .join(User, User.id == ImportRow.user_id)
        .where(ImportRow.import_id == import_id, ImportRow.outcome == RowOutcome.CREATED)
        .order_by(ImportRow.number)
    )
    return [CreatedRow(**row._mapping) for row in connection.execute(query)]


def release_import(connection: Connection, import_id: UUID) -> None:
    """End the reservation of an import, so that another process may continue it."""
    connection.execute(update(Import).where(Import.id == import_id).values(claimed_until=None))


def delete_expired_imports(connection: Connection) -> bool:
    """Delete a few imports that are older than 24 hours; return whether there were any.

    Deleting all at once could take longer than the deadline.
    """
    expired = select(Import.id).where(Import.created_at < EXPIRED_BEFORE).limit(EXPIRED_BATCH)
    return connection.execute(delete(Import).where(Import.id.in_(expired))).rowcount > 0


def _find_rows(
    connection: Connection, import_id: UUID, limit: int | None, outcome: RowOutcome | None
) -> list[StoredRow]:
    columns = (ImportRow.number, ImportRow.cells, ImportRow.body, ImportRow.fingerprint, ImportRow.refusal)
    has_outcome = ImportRow.outcome.is_(None) if outcome is None else ImportRow.outcome == outcome
    query = select(*columns).where(ImportRow.import_id == import_id, has_outcome)
    return [
        StoredRow(
            number=row.number,
            cells=tuple(row.cells or ()),
            body=row.body or {},
            fingerprint=row.fingerprint,
            outcome=outcome,
            refusal=row.refusal and refusal_from_json(row.refusal),
        )
        for row in connection.execute(query.order_by(ImportRow.number).limit(limit))
    ]


def _count_outcomes(connection: Connection, import_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
    query = select(ImportRow.import_id, ImportRow.outcome, func.count()).where(ImportRow.import_id.in_(import_ids))
    counts: dict[UUID, dict[str, int]] = {}
    for import_id, outcome, number in connection.execute(query.group_by(ImportRow.import_id, ImportRow.outcome)):
        counts.setdefault(import_id, {})[outcome or "pending"] = number
    return counts


def _import_run(row: RowMapping, counts: dict[str, int]) -> ImportRun:
    lists = {name: tuple(row[name]) for name in ("headers", "fields", "notes")}
    return ImportRun(**{**row, **lists, "state": ImportState(row["state"]), **counts})


def _change_state(connection: Connection, import_id: UUID, expected_state: ImportState, **values: Any) -> bool:
    """Set columns and end the reservation; return False if the state is not `expected_state`."""
    changed = update(Import).where(Import.id == import_id, Import.state == expected_state)
    values |= {"claimed_until": None}
    return connection.execute(changed.values(values).returning(Import.id)).scalar() is not None


def _renew_reservation(connection: Connection, import_id: UUID, state: ImportState) -> bool:
    """Renew the reservation and lock the row; return False if the state is not `state`."""
    renewed = update(Import).where(Import.id == import_id, Import.state == state).values(claimed_until=RESERVED_UNTIL)
    return connection.execute(renewed.returning(Import.id)).scalar() is not None


def _json(values: Sequence[dict[str, Any]]) -> str:
    return json.dumps(values).replace("\\u0000", "\\ufffd")  # PostgreSQL stores no NUL
