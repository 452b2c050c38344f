"""`flask spool ...`: looking after what waits on disk."""

import time

import click
from flask.cli import AppGroup

from project.cli.common import refusals
from project.runtime import get_runtime
from project.services import attempts
from project.spool import read_status

group = AppGroup("spool", help="Look after attempts that PostgreSQL could not take yet.")


@group.command("status")
def spool_status() -> None:
    """Show what waits on disk for PostgreSQL to come back.

    \b
    Example:
      flask spool status
    """
    kept = read_status(get_runtime().spool.root)
    age = "" if kept.oldest is None else f", the oldest for {max(0, round(time.time() - kept.oldest))} s"
    click.echo(f"{kept.records} attempts wait ({kept.bytes} bytes{age}), {kept.quarantined} in quarantine")


@group.command("drain")
def spool_drain() -> None:
    """Bring into PostgreSQL what processes left on disk that run no more; a running one drains its own.

    \b
    Example:
      flask spool drain
    """
    with refusals():
        drained = attempts.drain_orphans(get_runtime().database, get_runtime().spool)
    click.echo(f"{drained} attempts brought in")
