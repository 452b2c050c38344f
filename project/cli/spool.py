"""The commands `flask spool ...`, which inspect and drain the spool."""

import time

import click
from flask.cli import AppGroup

from project.cli.common import as_click_exceptions
from project.cli.help_texts import N_, help_text
from project.http.translations import gettext
from project.runtime import get_runtime
from project.services.attempts import Delivery
from project.spool import read_status

group = AppGroup(
    "spool", help=N_("Inspect and drain the spool, which stores attempts while PostgreSQL is unavailable.")
)


@group.command(
    "status",
    help=help_text(
        N_("Show how many attempts are spooled."),
        examples=("flask spool status",),
    ),
)
def spool_status() -> None:
    """Show how many attempts are spooled."""
    status = read_status(get_runtime().spool.root)
    texts = [
        gettext("Attempts on disk: %(count)s (%(bytes)s bytes)", count=status.records, bytes=status.bytes),
        gettext("in quarantine: %(count)s", count=status.quarantined),
    ]
    if status.oldest is not None:
        age_s = max(0, round(time.time() - status.oldest))
        texts.insert(1, gettext("the oldest for %(age)s s", age=age_s))
    click.echo(", ".join(texts))


@group.command(
    "drain",
    help=help_text(
        N_("Drain the spool of dead processes into PostgreSQL. Running processes drain their own."),
        examples=("flask spool drain",),
    ),
)
def spool_drain() -> None:
    """Drain the spool of dead processes into PostgreSQL."""
    with as_click_exceptions():
        drained = Delivery(get_runtime().database).drain_orphans(get_runtime().spool)
    click.echo(gettext("Attempts drained: %(count)s", count=drained))
