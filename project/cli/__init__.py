"""The `flask ...` commands for operators."""

import os
from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import click
from flask import Flask, current_app
from flask.cli import run_command, with_appcontext
from flask_babel import force_locale

from project.cli import api_keys, attempts, doctor, imports, migrations, spool, users
from project.cli.greeting import terminal_language
from project.cli.help_texts import english_texts, translate, use_translations_of_click
from project.embedded import EmbeddedPostgresError

users.group.add_command(imports.import_users)
COMMANDS = (users.group, api_keys.group, spool.group, attempts.group, doctor.doctor)


def init_app(app: Flask) -> None:
    """Register the commands of this package with the application."""
    for command in COMMANDS:
        app.cli.add_command(command)
    migrations.init_app(app)
    _print_development_address()


def _print_development_address() -> None:
    """Print the address of `flask run`, because the log omits the messages of its server."""
    context = click.get_current_context(silent=True)
    if context and context.command is run_command and os.environ.get("WERKZEUG_RUN_MAIN") != "true":
        click.echo(f" * http://{context.params['host']}:{context.params['port']}/ (press Ctrl-C to quit)")


def _with_database(run: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a command to start the embedded PostgreSQL first, if the service uses it.

    Otherwise the first query would start PostgreSQL, which takes longer than the deadline of a query. The wrapped
    command runs in an application context, and raises ClickException if PostgreSQL cannot be started.
    """

    def run_with_database(*arguments: Any, **options: Any) -> Any:
        if server := current_app.extensions["embedded_postgres"]:
            try:
                server.start()
            except EmbeddedPostgresError as error:
                raise click.ClickException(str(error)) from None
        return run(*arguments, **options)

    wrapped: Callable[..., Any] = with_appcontext(update_wrapper(run_with_database, run))
    return wrapped


def _in_terminal_language(run: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `invoke` of a command or group to print texts in the language of the terminal."""

    def run_in_terminal_language(*arguments: Any, **options: Any) -> Any:
        with force_locale(terminal_language()):
            return run(*arguments, **options)

    return run_in_terminal_language


def _with_translated_help(command: click.Command, run: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method that needs the help of a command, to translate the help first."""
    texts = list(english_texts(command))

    def run_with_translated_help(*arguments: Any, **options: Any) -> Any:
        with force_locale(terminal_language()):
            translate(texts)
        return run(*arguments, **options)

    return run_with_translated_help


def _wrap_callbacks(command: click.Command) -> None:
    """Make a command and its subcommands use the terminal's language and start PostgreSQL.

    Replaces their `invoke` and callbacks. Only the embedded PostgreSQL is started, and not for `flask spool status`.
    """
    for subcommand in command.commands.values() if isinstance(command, click.Group) else ():
        _wrap_callbacks(subcommand)
    command.invoke = _in_terminal_language(command.invoke)  # type: ignore[method-assign]
    if command.callback and command is not spool.spool_status:
        command.callback = _with_database(command.callback)


use_translations_of_click()
for _command in COMMANDS:
    _wrap_callbacks(_command)
    _command.make_context = _with_translated_help(_command, _command.make_context)  # type: ignore[method-assign]
    _command.get_short_help_str = _with_translated_help(  # type: ignore[method-assign]  # for `flask --help`
        _command, _command.get_short_help_str
    )
