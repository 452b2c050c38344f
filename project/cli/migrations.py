"""Flask-Migrate and its commands `flask db ...`, loaded at first use.

Alembic takes 8 MB of memory, and a process that serves needs nothing of it.
"""

from typing import Any

import click
from flask import Flask

from config import ROOT
from project.extensions import db


class LazyMigrate:
    """The entry of Flask-Migrate in `app.extensions`, which replaces itself at first use."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    @property
    def migrate(self) -> Any:
        """Flask-Migrate's object."""
        from flask_migrate import Migrate  # noqa: PLC0415 - takes memory

        # Absolute, because the default depends on the working directory
        return Migrate(self._app, db, directory=str(ROOT / "migrations"))


class MigrationCommands(click.Command):
    """The group `flask db`, replaced by that of Flask-Migrate when it is called."""

    def __init__(self, app: Flask) -> None:
        super().__init__("db", help="Perform database migrations.")
        self._app = app

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Return the context of Flask-Migrate's group."""
        _ = self._app.extensions["migrate"].migrate  # registers the group
        return self._app.cli.commands["db"].make_context(*arguments, **options)


def init_app(app: Flask) -> None:
    """Register the commands."""
    app.extensions["migrate"] = LazyMigrate(app)
    app.cli.add_command(MigrationCommands(app))
