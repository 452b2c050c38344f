"""Runs migrations against the database of the application that Flask-Migrate hands over."""

from alembic import context
from flask import current_app
from sqlalchemy import text

LOCK_TIMEOUT = "200ms"
"""A migration that waits for a lock makes every insert behind it wait: rather give up soon and try again."""


def run() -> None:
    """Apply the migrations in one transaction each."""
    db = current_app.extensions["migrate"].db
    with db.engine.connect() as connection:
        connection.execute(text(f"set lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text("set statement_timeout = 0"))
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
