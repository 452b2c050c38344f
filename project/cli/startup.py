"""Checks of the database at each start and in `flask doctor`, and migrations at the start."""

import logging
import mmap
import struct
import sys
import time
from contextlib import suppress

from flask import Flask, current_app
from flask_babel import force_locale

from project.cli.findings import Finding
from project.cli.greeting import terminal_language
from project.database import QueryError
from project.domain.errors import DatabaseUnavailableError
from project.http.translations import gettext
from project.queries.maintenance import ServerInfo, find_secret_ids, find_server
from project.runtime import Runtime, get_runtime

log = logging.getLogger(__name__)


REPORT_EVERY_S = 60
"""Minimum number of seconds between two reports of a problem."""
_REPORT = struct.Struct("d4000s")
"""Format of the shared memory: time of the last report, and the first message."""


class StartError(Exception):
    """The service must not start with this database. The message says why and what to do."""


class StartReports:
    """Reports problems and warnings of a start on standard error, later ones in the log.

    Reports at most one of them a minute and drops the others. Each retry of a start runs in another process, so the
    first problem and the time of the last report are in memory that these processes share.
    """

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _REPORT.size)

    @property
    def first_problem(self) -> str:
        """The first problem that was reported, or ""."""
        _, first = _REPORT.unpack(self._shared[:])
        return bytes(first).rstrip(b"\0").decode(errors="ignore")

    def add(self, message: str) -> bool:
        """Report a problem, at most once a minute; return whether it is the first one."""
        last, first = _REPORT.unpack(self._shared[:])
        now = time.monotonic()
        if last and now - last < REPORT_EVERY_S:
            return False
        self._shared[:] = _REPORT.pack(now, first.rstrip(b"\0") or message.encode())
        if not last:
            with suppress(OSError):
                print(message, file=sys.stderr, flush=True)
        else:
            log.error("start not complete", extra={"cause": message})
        return not last


def prepare_database(app: Flask, *, migrate: bool) -> list[str]:
    """Check the database, and migrate it if `migrate` is set; return warnings.

    Without `migrate`, missing tables, and tables of an older or newer version, are no error. Raises StartError or
    DatabaseUnavailableError.
    """
    with app.app_context(), force_locale(terminal_language()):
        server = _find_server(is_patient=migrate)
        _raise_unless_ok(check_encoding(server))
        _raise_unless_ok(check_tables(server, known_revisions(), allows_newer=not migrate))
        if migrate:
            _upgrade()
            server = _find_server(is_patient=True)
        _raise_unless_ok(check_access(server))
        secrets = check_secrets(get_runtime(), server)
        return [f"{secrets.description}: {secrets.remedy}"] if secrets.remedy else []


def _find_server(*, is_patient: bool) -> ServerInfo:
    """Query the properties of the server. Raises StartError if PostgreSQL rejects the query.

    Raises DatabaseUnavailableError in an outage: at once, or with `is_patient` after retries for REQUEST_DEADLINE_S, so
    that even after a short outage migrations precede the first request.
    """
    database = get_runtime().database
    try:
        return database.read_transaction(find_server) if is_patient else database.run_once(find_server)
    except QueryError as error:
        raise StartError(gettext("DATABASE_URL: PostgreSQL rejects a check (%(cause)s)", cause=error)) from None


def _raise_unless_ok(finding: Finding) -> None:
    if finding.remedy:
        raise StartError(f"DATABASE_URL: {finding.description}: {finding.remedy}")


def _upgrade() -> None:
    from alembic import command  # noqa: PLC0415 - takes memory
    from alembic.util import CommandError  # noqa: PLC0415

    try:
        command.upgrade(current_app.extensions["migrate"].migrate.get_config(), "head")
    except CommandError as error:
        if isinstance(error.__cause__, DatabaseUnavailableError):
            raise error.__cause__ from None
        remedy = gettext(
            "MIGRATIONS_DATABASE_URL, else DATABASE_URL, must name the role that owns the tables (deploy/roles.sql)"
        )
        text = gettext("the migration failed: %(cause)s.", cause=error)
        raise StartError(f"{text} {remedy}") from None


def known_revisions() -> set[str]:
    """Return the revisions of the migrations of this version of useradd."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - takes memory

    script = ScriptDirectory.from_config(current_app.extensions["migrate"].migrate.get_config())
    return {revision.revision for revision in script.walk_revisions()}


def check_encoding(server: ServerInfo) -> Finding:
    """Check that the encoding of the database is UTF8, which can store every character."""
    remedy = gettext("create the database with: %(options)s", options="encoding 'UTF8' template template0")
    description = gettext("the encoding of the database is %(encoding)s", encoding=server.encoding)
    return Finding(gettext("encoding"), description, "" if server.encoding == "UTF8" else remedy)


def check_tables(server: ServerInfo, known: set[str], *, allows_newer: bool = False) -> Finding:
    """Check that the tables were created by a migration of useradd.

    `allows_newer` accepts the schema of a newer version, so that an upgrade can be undone.
    """
    subject, revision = gettext("tables"), server.revision
    remedy = gettext("use a database, or a schema, of its own for useradd")
    if not server.may_write:
        return Finding(subject, gettext("not checked: no privilege"))
    if revision is None and server.tables:
        tables = ", ".join(server.tables)
        return Finding(subject, gettext("%(tables)s exist, but not from a migration of useradd", tables=tables), remedy)
    if revision is None or revision in known:
        return Finding(subject, gettext("of useradd") if server.tables else gettext("none yet"))
    if revision.isdigit() and revision > max(known):
        newer = gettext(
            "revision %(revision)s is newer than %(latest)s, the latest of this version of useradd",
            revision=revision,
            latest=max(known),
        )
        return Finding(subject, newer, "" if allows_newer else gettext("run that version, or a newer one"))
    text = gettext("alembic_version has revision %(revision)s, which is not of useradd", revision=revision)
    return Finding(subject, text, remedy)


def check_access(server: ServerInfo) -> Finding:
    """Check that the role may read and write the tables."""
    if server.may_write:
        text = gettext("role %(role)s can read and write all tables", role=server.role)
        return Finding(gettext("privileges"), text)
    description = gettext("role %(role)s cannot read and write all tables", role=server.role)
    return Finding(
        gettext("privileges"), description, gettext("run deploy/roles.sql: it grants the required privileges")
    )


def check_secrets(runtime: Runtime, server: ServerInfo) -> Finding:
    """Check that this instance has the secrets of issued passwords and idempotency keys.

    Checks a sample of them. Raises DatabaseUnavailableError.
    """
    known = {secret.kid for secret in runtime.passwords.secrets}
    if not {"users", "idempotency_keys"} <= set(server.tables) or server.revision is None or not server.may_write:
        return Finding(gettext("issued passwords"), gettext("none yet"))
    missing = sorted(runtime.database.read_transaction(find_secret_ids) - known)
    if not missing:
        text = gettext("all depend on known secrets (key ID %(id)s)", id=runtime.passwords.kid)
        return Finding(gettext("issued passwords"), text)
    ids = {"missing": ", ".join(missing), "known": ", ".join(sorted(known))}
    description = gettext("some depend on a secret with key ID %(missing)s; this instance has %(known)s", **ids)
    remedy = gettext(
        "give every instance the same PASSWORD_SECRET, and former ones in PASSWORD_SECRET_FALLBACKS; "
        "until then these users cannot log in"
    )
    return Finding(gettext("issued passwords"), description, remedy)
