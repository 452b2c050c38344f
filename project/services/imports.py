"""Imports of files that administrators upload (docs/adr/0034)."""

import logging
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from project.database import Database
from project.domain.attempts import new_id
from project.domain.audit import Action, NewEntry
from project.domain.errors import RefusalError
from project.domain.imports import CreatedRow, ImportRun, StoredRow
from project.domain.passwords import Passwords
from project.domain.registration import derive_line_key
from project.queries import imports as queries

log = logging.getLogger(__name__)

CredentialsRow = tuple[str, str, str, str, str]
"""Name, login, password, phone and e-mail of a user. The password is empty if it is no longer known."""


def create_import(database: Database, by: UUID, file_name: str, content: bytes, *, ignore_unknown: bool) -> UUID:
    """Store a file to be checked; return the ID of the import."""
    import_id = new_id(datetime.now(UTC))
    database.write_transaction(queries.add_import, import_id, by, file_name, content, ignore_unknown=ignore_unknown)
    _log("import uploaded", import_id, by)
    return import_id


def get_import(database: Database, import_id: UUID) -> ImportRun:
    """Return an import. Raises RefusalError `not_found`."""
    found = database.read_transaction(queries.find_import, import_id)
    if found is None:
        raise RefusalError("not_found")
    return found


def find_imports(database: Database) -> list[ImportRun]:
    """Return the newest 100 imports, newest first. Imports are kept for 24 hours."""
    return database.read_transaction(queries.find_imports)


def find_refused_rows(database: Database, import_id: UUID, limit: int | None = None) -> list[StoredRow]:
    """Return the first `limit` refused rows in the order of the file; None means all."""
    return database.read_transaction(queries.find_refused_rows, import_id, limit)


def start_import(database: Database, passwords: Passwords, import_id: UUID, by: UUID) -> None:
    """Start creating the users of a checked import. Does nothing in any other state."""
    if database.write_transaction(queries.start_import, import_id, passwords.kid):
        _log("import started", import_id, by)


def download_credentials(database: Database, passwords: Passwords, run: ImportRun, by: UUID) -> list[CredentialsRow]:
    """Return the credentials of the users that an import has created. Works only once.

    Passwords are not stored, but derived again. A password is empty if the user has changed it, or if its secret is no
    longer configured. Raises RefusalError `not_found` if the import is not done or its credentials were downloaded
    before, and `credentials_changed` if the secret of the import is no longer configured.
    """
    try:
        import_key = passwords.derive_import_key(str(run.id), run.kid)
    except KeyError:
        raise RefusalError("credentials_changed") from None
    entry = NewEntry.by_user(Action.DOWNLOADED, by, details={"format": "csv", "file": "passwords"})
    issued = database.write_transaction(queries.download_credentials, run.id, entry)
    if issued is None:
        raise RefusalError("not_found")
    _log("credentials of an import downloaded", run.id, by)
    return [_credentials_row(passwords, import_key, user) for user in issued]


def _credentials_row(passwords: Passwords, import_key: str, user: CreatedRow) -> CredentialsRow:
    password = ""
    if not user.is_password_changed:
        with suppress(KeyError):  # the secret is no longer configured
            password = passwords.derive(derive_line_key(import_key, user.fingerprint), user.username, user.kid)
    return user.name, user.username, password, user.phone or "", user.email or ""


def _log(event: str, import_id: UUID, by: UUID) -> None:
    log.info(event, extra={"import_id": str(import_id), "by": str(by)})
