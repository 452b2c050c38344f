"""`flask api-keys ...`: keys with which programs call the service."""

from uuid import UUID

import click
from flask.cli import AppGroup

from project.cli.common import checked_by, refusals
from project.domain.api_keys import check_name
from project.runtime import get_runtime
from project.services import api_keys as keys

group = AppGroup("api-keys", help="Manage keys with which programs call the service.")


@group.command("create")
@click.argument("name", callback=checked_by(check_name, "name"))
def create_key(name: str | None) -> None:
    """Make a key for a program and print it, once. NAME says what it is for.

    \b
    Example:
      flask api-keys create "shop front"
    """
    if name is None:
        raise click.UsageError("The key needs a name.")
    with refusals():
        issued = keys.issue(get_runtime().database, name, by=None)
    click.echo(issued.key)


@group.command("list")
def list_keys() -> None:
    """Show all keys: number, state, day of the last use, name. The keys themselves are kept nowhere.

    \b
    Example:
      flask api-keys list
    """
    with refusals():
        found = keys.find_all(get_runtime().database)
    for key in found:
        state = "revoked" if key.revoked_at else "valid  "
        click.echo(f"{key.id}  {state}  {key.last_used or 'never used'}  {key.name}")


@group.command("revoke")
@click.argument("number", type=click.UUID)
def revoke_key(number: UUID) -> None:
    """Make a key void: programs that use it are refused within seconds. NUMBER is that of `flask api-keys list`.

    \b
    Example:
      flask api-keys revoke 01936b4e-2f6a-7c3e-9b1d-5a8f0c2e4d61
    """
    with refusals():
        name = keys.revoke(get_runtime().database, number, by=None)
    click.echo(f"“{name}” is revoked")
