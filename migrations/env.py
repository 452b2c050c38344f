"""Runs migrations on the database of the application, within Flask-Migrate."""

import random
import time
from contextlib import ExitStack

from alembic import context
from alembic.util import CommandError
from flask import current_app
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from project.database import errors
from project.domain.errors import DatabaseUnavailableError

LOCK_TIMEOUT = "200ms"
"""A migration that waits for a lock blocks every insert behind it, so it gives up early and is retried."""
TRIES = 200
PAUSE_S = (0.1, 0.5)
MIGRATION_LOCK = 7_164_201
"""Advisory lock: only one instance migrates at a time."""
_LOCK_NOT_AVAILABLE = "55P03"


def run() -> None:
    """Apply the migrations in one transaction each; a retry does not repeat those that are applied.

    Raises CommandError; its cause is a DatabaseUnavailableError in an outage.
    """
    for left in reversed(range(TRIES)):
        try:
            run_once()
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE or not left:
                raise _explained(error) from _outage(error)
            time.sleep(random.uniform(*PAUSE_S))  # noqa: S311 - spreads load, guards nothing
        else:
            return


def _explained(error: DBAPIError) -> CommandError:
    """Return the error that Flask-Migrate shows in one line: PostgreSQL's own sentence, without data of rows."""
    if errors.is_unavailable(error):
        return CommandError(f"PostgreSQL is unavailable: {errors.cause(error)}")
    message = getattr(getattr(error.orig, "diag", None), "message_primary", None)
    return CommandError(message or errors.cause(error))


def _outage(error: DBAPIError) -> Exception:
    return DatabaseUnavailableError(errors.cause(error)) if errors.is_unavailable(error) else error


def run_once() -> None:
    """Apply the migrations. Raises DBAPIError if a lock is not available in time."""
    db = current_app.extensions["migrate"].db
    with db.engines["migrating"].connect() as connection, ExitStack() as stack:
        stack.callback(connection.invalidate)  # closes it, which releases the lock and drops the settings
        connection.execute(text(f"set lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text("set statement_timeout = 0"))
        connection.execute(text(f"select pg_advisory_lock({MIGRATION_LOCK})"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=db.metadata,
            compare_server_default=True,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()


run()
