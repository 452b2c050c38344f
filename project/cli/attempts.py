"""`flask attempts ...`: looking after the log of attempts."""

from datetime import UTC, datetime, timedelta

import click
from flask.cli import AppGroup

from project.cli.common import refusals
from project.services import attempts
from project.web.tools import tools

group = AppGroup("attempts", help="Look after the log of attempts.")


@group.command("prune")
def prune_attempts() -> None:
    """Forget attempts older than ATTEMPTS_KEEP_DAYS now; a running service does the same, little by little.

    Users stay, and so do attempts that are younger.

    \b
    Example:
      flask attempts prune
    """
    days = tools().config.attempts_keep_days
    if not days:
        raise click.ClickException("ATTEMPTS_KEEP_DAYS is 0: attempts are kept for ever")
    with refusals():
        pruned = attempts.forget_all(tools().database, datetime.now(UTC) - timedelta(days=days))
    click.echo(f"{pruned} attempts older than {days} days forgotten")
