"""Flask-Migrate and its commands `flask db ...`, loaded at first use.

Alembic takes 8 MB of memory, and processes that serve requests do not need it.
"""

from typing import Any

import click
from flask import Flask

from config import ROOT
from project.extensions import db


class LazyMigrate:
    """A placeholder for Flask-Migrate in `app.extensions`, which is replaced at first use."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    @property
    def migrate(self) -> Any:
        """The object of Flask-Migrate, which replaces the placeholder."""
        from flask_migrate import Migrate  # noqa: PLC0415 - takes memory

        # Absolute, because the default depends on the working directory
        return Migrate(self._app, db, directory=str(ROOT / "migrations"))


class MigrationCommands(click.Command):
    """A placeholder for the group `flask db`, which Flask-Migrate replaces when it is called."""

    def __init__(self, app: Flask) -> None:
        super().__init__("db", help="Perform database migrations.")
        self._app = app

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Load the group of Flask-Migrate and return its context."""
        _ = self._app.extensions["migrate"].migrate  # registers the group
        return self._app.cli.commands["db"].make_context(*arguments, **options)


def init_app(app: Flask) -> None:
    """Register the placeholders with the application."""
    app.extensions["migrate"] = LazyMigrate(app)
    app.cli.add_command(MigrationCommands(app))
