"""Runs migrations against the database of the application that Flask-Migrate hands over."""

import random
import time
from contextlib import ExitStack

from alembic import context
from flask import current_app
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

LOCK_TIMEOUT = "200ms"
"""A migration that waits for a lock makes every insert behind it wait: rather give up soon and try again."""
TRIES = 200
PAUSE_S = (0.1, 0.5)
ONE_AT_A_TIME = 7_164_201
"""Number of the advisory lock that keeps two instances from migrating at the same time."""
_LOCK_NOT_AVAILABLE = "55P03"


def run() -> None:
    """Apply the migrations in one transaction each; what is applied stays when a later one has to be tried again."""
    for left in reversed(range(TRIES)):
        try:
            run_once()
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE or not left:
                raise
            time.sleep(random.uniform(*PAUSE_S))  # noqa: S311 - spreads load, guards nothing
        else:
            return


def run_once() -> None:
    """Apply the migrations, or raise when a lock is not to be had."""
    db = current_app.extensions["migrate"].db
    with db.engines["migrating"].connect() as connection, ExitStack() as stack:
        stack.callback(connection.invalidate)  # it closes afterwards and takes lock and settings with it
        connection.execute(text(f"set lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text("set statement_timeout = 0"))
        connection.execute(text(f"select pg_advisory_lock({ONE_AT_A_TIME})"))
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
