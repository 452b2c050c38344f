"""The commands `flask api-keys ...`, which manage API keys of client programs."""

from uuid import UUID

import click
from flask.cli import AppGroup

from project.cli.common import as_click_exceptions, validation_callback
from project.cli.help_texts import N_, help_text
from project.domain.api_keys import SHOWN_PREFIX_LENGTH, normalize_key_name
from project.http.languages import to_display_zone
from project.http.translations import gettext, pgettext
from project.runtime import get_runtime
from project.services import api_keys as keys

group = AppGroup("api-keys", help=N_("Manage API keys of client programs."))


@group.command(
    "create",
    help=help_text(
        N_("Create an API key and print it once. NAME describes its purpose."),
        examples=('flask api-keys create "shop front"',),
    ),
)
@click.argument("name", callback=validation_callback(normalize_key_name))
def create_key(name: str | None) -> None:
    """Create an API key and print it once."""
    if name is None:
        raise click.UsageError(gettext("The key needs a name."))
    with as_click_exceptions():
        issued = keys.issue_key(get_runtime().database, name, by=None)
    click.echo(issued.key)


@group.command(
    "list",
    help=help_text(
        N_("List all keys: ID, first characters, state, last use, name. Only hashes of keys are stored."),
        examples=("flask api-keys list",),
    ),
)
def list_keys() -> None:
    """List all keys: ID, first characters, state, last use, name."""
    with as_click_exceptions():
        found = keys.find_keys(get_runtime().database)
    states = {False: pgettext("key", "Valid"), True: gettext("Revoked")}
    width = max(map(len, states.values()))
    for key in found:
        state, used = states[key.revoked_at is not None], key.last_used_at and to_display_zone(key.last_used_at)
        last_use = f"{used:%Y-%m-%d %H:%M}" if used else key.last_used or gettext("never used")
        prefix = f"{key.prefix}…" if key.prefix else ""
        click.echo(f"{key.id}  {prefix:{SHOWN_PREFIX_LENGTH + 1}}  {state:{width}}  {last_use!s:16}  {key.name}")


@group.command(
    "revoke",
    help=help_text(
        N_("Revoke a key by its ID (`flask api-keys list`). Programs that use it are refused within seconds."),
        examples=("flask api-keys revoke 01936b4e-2f6a-7c3e-9b1d-5a8f0c2e4d61",),
    ),
)
@click.argument("key_id", metavar="ID", type=click.UUID)
def revoke_key(key_id: UUID) -> None:
    """Revoke a key by its ID."""
    with as_click_exceptions():
        name = keys.revoke_key(get_runtime().database, key_id, by=None)
    click.echo(gettext("The key “%(name)s” is revoked.", name=name))
