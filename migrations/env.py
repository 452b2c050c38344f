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
"""A migration that waits for a lock blocks every insert behind it, so it gives up early and is retried."""
TRIES = 200
PAUSE_S = (0.1, 0.5)
MIGRATION_LOCK = 7_164_201
"""Advisory lock: only one instance migrates at a time."""
ANSWER_S = 3.0
"""Seconds for connecting and for a migration of another instance: a start must not wait for a frozen PostgreSQL."""
_LOCK_NOT_AVAILABLE = "55P03"


def run() -> None:
    """Apply the migrations in one transaction each; a retry does not repeat those that are applied.

    Raises CommandError; its cause is a DatabaseUnavailableError in an outage.
    """
    _start_embedded_postgres()
    for left in reversed(range(TRIES)):
        try:
            run_once()
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE or not left:
                raise _explained(error) from _outage(error)
            time.sleep(random.uniform(*PAUSE_S))  # noqa: S311 - spreads load, guards nothing
        else:
            return


def _start_embedded_postgres() -> None:
    """Start the embedded server if the service uses it; connecting would start it, but has too short a deadline."""
    if server := current_app.extensions["embedded_postgres"]:
        try:
            server.start()
        except EmbeddedPostgresError as error:
            raise CommandError(str(error)) from DatabaseUnavailableError(str(error))


def _explained(error: DBAPIError) -> CommandError:
    """Return the error that Flask-Migrate shows in one line: PostgreSQL's own sentence, without data of rows."""
    if errors.is_unavailable(error):
        return CommandError(f"PostgreSQL is unavailable: {errors.describe(error)}")
    message = getattr(getattr(error.orig, "diag", None), "message_primary", None)
    return CommandError(message or errors.describe(error))


def _outage(error: DBAPIError) -> Exception:
    return DatabaseUnavailableError(errors.describe(error)) if errors.is_unavailable(error) else error


def run_once() -> None:
    """Apply the migrations. Raises DBAPIError if PostgreSQL does not answer or a lock is not available in time."""
    db = current_app.extensions["migrate"].db
    with ExitStack() as stack:
        with deadline(ANSWER_S):
            connection = stack.enter_context(db.engines["migrating"].connect())
            stack.callback(connection.invalidate)  # closes it, which releases the lock and drops the settings
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
    """Wait until no other instance migrates. Raises CommandError at the deadline."""
    while not connection.scalar(text(f"select pg_try_advisory_lock({MIGRATION_LOCK})")):
        pause = random.uniform(*PAUSE_S)  # noqa: S311 - spreads load, guards nothing
        if (remaining_seconds() or 0) <= pause:
            message = "another instance is migrating the database"
            raise CommandError(message) from DatabaseUnavailableError(message)
        time.sleep(pause)


run()
