"""Runs migrations on the database of the application, within Flask-Migrate."""

import random
import time
from contextlib import ExitStack

from alembic import context
from alembic.util import CommandError
from flask import current_app
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from project.database import deadline, errors, remaining_seconds
from project.domain.errors import DatabaseUnavailableError
from project.embedded import EmbeddedPostgresError

LOCK_TIMEOUT = "200ms"
"""While a migration waits for a lock, later inserts wait, too. So the migration gives up early and is retried."""
TRIES = 200
"""Number of tries to get the locks of the migrations."""
PAUSE_S = (0.1, 0.5)
"""Bounds of the random pause between two tries in seconds."""
MIGRATION_LOCK = 7_164_201
"""Advisory lock: only one instance migrates at a time."""
CONNECT_S = 3.0
"""Seconds for connecting and for getting MIGRATION_LOCK: a start must not wait for a frozen PostgreSQL."""
_LOCK_NOT_AVAILABLE = "55P03"


def migrate() -> None:
    """Apply the migrations in one transaction each. A retry skips the applied ones.

    Raises CommandError. In an outage, the cause of the error is a DatabaseUnavailableError.
    """
    _start_embedded_postgres()
    for retries_left in reversed(range(TRIES)):
        try:
            migrate_once()
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE or not retries_left:
                raise _to_command_error(error) from _find_cause(error)
            time.sleep(random.uniform(*PAUSE_S))  # noqa: S311 - spreads load, guards nothing
        else:
            return


def _start_embedded_postgres() -> None:
    """Start the embedded server if the service uses it.

    Connecting would start the server, too, but with too short a deadline.
    """
    if server := current_app.extensions["embedded_postgres"]:
        try:
            server.start()
        except EmbeddedPostgresError as error:
            raise CommandError(str(error)) from DatabaseUnavailableError(str(error))


def _to_command_error(error: DBAPIError) -> CommandError:
    """Return an error that Flask-Migrate shows in one line: PostgreSQL's message without row data."""
    if errors.is_unavailable(error):
        return CommandError(f"PostgreSQL is unavailable: {errors.describe(error)}")
    message = getattr(getattr(error.orig, "diag", None), "message_primary", None)
    return CommandError(message or errors.describe(error))


def _find_cause(error: DBAPIError) -> Exception:
    return DatabaseUnavailableError(errors.describe(error)) if errors.is_unavailable(error) else error


def migrate_once() -> None:
    """Try to apply the migrations. Raises DBAPIError if PostgreSQL fails or a lock times out."""
    db = current_app.extensions["migrate"].db
    with ExitStack() as stack:
        with deadline(CONNECT_S):
            connection = stack.enter_context(db.engines["migrating"].connect())
            stack.callback(connection.invalidate)  # closing releases the lock and drops the settings
            connection.execute(text(f"set lock_timeout = '{LOCK_TIMEOUT}'"))
            connection.execute(text("set statement_timeout = 0"))
            _lock(connection)
            connection.commit()
        context.configure(
            connection=connection,
            target_metadata=db.metadata,
            compare_server_default=True,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()


def _lock(connection: Connection) -> None:
    """Get MIGRATION_LOCK. Raises CommandError if another instance holds it until the deadline."""
    while not connection.scalar(text(f"select pg_try_advisory_lock({MIGRATION_LOCK})")):
        pause = random.uniform(*PAUSE_S)  # noqa: S311 - spreads load, guards nothing
        if (remaining_seconds() or 0) <= pause:
            message = "another instance is migrating the database"
            raise CommandError(message) from DatabaseUnavailableError(message)
        time.sleep(pause)


migrate()
