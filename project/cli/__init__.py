"""`flask ...` commands for operators."""

import flask_migrate
from flask import Flask

from project.cli import api_keys, attempts, doctor, imports, spool, users
from project.queries.maintenance import ping
from project.runtime import get_runtime


def init_app(app: Flask) -> None:
    """Register the commands."""
    users.group.add_command(imports.import_users)
    for command in (users.group, api_keys.group, spool.group, attempts.group, doctor.doctor):
        app.cli.add_command(command)


def upgrade(app: Flask) -> None:
    """Migrate the database like `flask db upgrade`. Raises DatabaseUnavailableError."""
    with app.app_context():
        get_runtime().database.write_transaction(ping)
        flask_migrate.upgrade()
