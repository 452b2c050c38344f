"""`flask ...` commands for operators."""

from flask import Flask

from project.cli import api_keys, attempts, doctor, imports, spool, users


def init_app(app: Flask) -> None:
    """Register the commands."""
    users.group.add_command(imports.import_users)
    for command in (users.group, api_keys.group, spool.group, attempts.group, doctor.doctor):
        app.cli.add_command(command)
