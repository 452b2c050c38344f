"""`flask shard`: the tables over several machines, where the database is a Citus cluster."""

import click
from flask.cli import with_appcontext

from project.cli.common import refusals
from project.extensions import db
from project.queries import shards
from project.web.tools import tools

NO_CITUS = """\
The database has no extension "citus", so there are no machines to spread tables over. Install Citus on every machine,
put citus first in shared_preload_libraries, restart, and on the coordinator run
  create extension citus;
  select citus_add_node('worker-1', 5432);   -- for each machine
Before that read docs/scaling.md: what one machine does, and what does not work on several."""
WARNING = """\
attempts, users and identifiers go over all machines. From then on these do not work (docs/scaling.md):
filters of the results page by outcome, status and reason; refusals of a login, phone or e-mail that is taken (they
become errors, still without a second user); retention (set ATTEMPTS_KEEP_DAYS=0). It was never tried on a live Citus.
Nobody can write while it runs, and there is no way back but a backup. Go on?"""


@click.command("shard")
@click.confirmation_option(prompt=WARNING, help="Do not ask.")
@with_appcontext
def shard() -> None:
    """Spread the tables over the machines of a Citus cluster.

    Run it on the coordinator, after `flask db upgrade`, before there is data. Exit status 1 if the database is no
    Citus cluster.

    \b
    Examples:
      flask shard
      flask shard --yes
    """
    with refusals():
        if not tools().database.read(shards.has_citus):
            raise click.ClickException(NO_CITUS)
        if shards.SPREAD.keys() <= tools().database.read(shards.find_spread):
            click.echo("The tables are spread already.")
            return
    with db.engines["migrating"].begin() as connection:  # by the role that owns the tables
        for step in shards.spread(connection):
            click.echo(step)
    click.echo(f"Done: {', '.join(shards.SPREAD)} are spread.")
