"""The commands `flask users ...`, which create administrators and manage users."""

from dataclasses import asdict
from uuid import UUID

import click
from flask.cli import AppGroup

from project.cli.common import as_click_exceptions, new_attempt, validate, validation_callback
from project.cli.greeting import login_address
from project.cli.help_texts import N_, help_text
from project.contract.schemas import MAX_NAME_LENGTH
from project.domain import emails, usernames
from project.domain.audit import Action, NewEntry
from project.domain.emails import normalize_email
from project.domain.logins import check_contact_as_username
from project.domain.masking import mask_email, mask_valid_phone
from project.domain.passwords import new_idempotency_key
from project.domain.phones import normalize_phone
from project.domain.registration import NewUser, Role
from project.domain.text import clean, normalize_name
from project.domain.users import UserDetail
from project.http.translations import gettext
from project.runtime import get_runtime
from project.services import audit, registration
from project.services import users as user_service

LOGIN_FORMS = N_("LOGIN is the username, phone, e-mail or id:ID.")
group = AppGroup("users", help=N_("Manage users."))


@group.command(
    "create-admin",
    help=help_text(
        N_("Create an administrator and print the password once."),
        examples=(
            "flask users create-admin --username boss --email boss@example.org",
            "./run flask users create-admin",
        ),
    ),
)
@click.option(
    "--username",
    prompt=N_("Username"),
    callback=validation_callback(usernames.check_username),
    help=N_("Login of the administrator."),
)
@click.option(
    "--name",
    callback=validation_callback(lambda n: normalize_name(n, MAX_NAME_LENGTH)),
    help=N_("Full name; default: the login."),
)
@click.option("--email", callback=validation_callback(normalize_email), help=N_("E-mail address."))
@click.option(
    "--phone",
    callback=validation_callback(lambda p: normalize_phone(p, get_runtime().config.phone_region)),
    help=N_("Phone number."),
)
def create_admin(username: str, name: str | None, email: str | None, phone: str | None) -> None:
    """Create an administrator and print the password once."""
    if not (email or phone):
        email = click.prompt(gettext("E-mail"), value_proc=lambda value: validate(normalize_email, value))
    validate(lambda login: check_contact_as_username(login, phone, email, get_runtime().config.phone_region), username)
    new_user = NewUser(name=name or username, username=username, phone=phone, email=email, birth_date=None)
    key, runtime = new_idempotency_key(), get_runtime()
    attempt = new_attempt("flask users create-admin", key)
    body = {field: value for field, value in asdict(new_user).items() if value}
    attempt.store_body(body, runtime.config.phone_region)
    with as_click_exceptions():
        credentials = registration.register(runtime.database, runtime.passwords, attempt, key, new_user, is_admin=True)
    _print_credentials(credentials.login, credentials.password)
    click.echo(gettext("Log in at %(address)s", address=login_address(runtime.config)))
    entry = NewEntry.by_user(Action.ADMINISTRATOR_CREATED, None, credentials.user.id, credentials.login)
    with as_click_exceptions():
        audit.record_entry(runtime.database, entry)


@group.command(
    "block",
    help=help_text(
        N_("Block a user and end all their sessions."),
        LOGIN_FORMS,
        examples=("flask users block petrov.ivan", 'flask users block "8 999 123-45-67"'),
    ),
)
@click.argument("login")
def block(login: str) -> None:
    """Block a user and end all their sessions."""
    with as_click_exceptions():
        username = user_service.block_user(get_runtime().database, _user_id(login), by=None)
    click.echo(gettext("%(name)s is blocked.", name=username))


@group.command(
    "unblock",
    help=help_text(
        N_("Unblock a user. The password stays the same."),
        LOGIN_FORMS,
        examples=("flask users unblock petrov.ivan",),
    ),
)
@click.argument("login")
def unblock(login: str) -> None:
    """Unblock a user. The password stays the same."""
    with as_click_exceptions():
        username = user_service.unblock_user(get_runtime().database, _user_id(login), by=None)
    click.echo(gettext("%(name)s can log in again.", name=username))


@group.command(
    "reset-password",
    help=help_text(
        N_("Issue a new password and print it once."),
        LOGIN_FORMS,
        examples=("flask users reset-password petrov.ivan",),
    ),
)
@click.argument("login")
def reset_password(login: str) -> None:
    """Issue a new password and print it once."""
    with as_click_exceptions():
        runtime = get_runtime()
        username, password = user_service.reset_password(runtime.database, runtime.passwords, _user_id(login), by=None)
    _print_credentials(username, password)


@group.command(
    "grant",
    help=help_text(
        N_("Replace the role of a user."),
        LOGIN_FORMS,
        examples=("flask users grant petrov.ivan --role auditor", "flask users grant petrov.ivan --role administrator"),
    ),
)
@click.argument("login")
@click.option(
    "--role",
    required=True,
    type=click.Choice([Role.AUDITOR.value, Role.ADMINISTRATOR.value]),
    help=N_("Auditors see names, birth dates and client addresses; administrators also change users and API keys."),
)
def grant(login: str, role: str) -> None:
    """Replace the role of a user."""
    with as_click_exceptions():
        username = user_service.grant_role(get_runtime().database, _user_id(login), Role(role), by=None)
    roles = {Role.AUDITOR: gettext("Auditor"), Role.ADMINISTRATOR: gettext("Administrator")}
    click.echo(gettext("%(name)s has a role now: %(role)s", name=username, role=roles[Role(role)]))


@group.command(
    "revoke",
    help=help_text(
        N_("Revoke the role of a user."),
        LOGIN_FORMS,
        examples=("flask users revoke petrov.ivan",),
    ),
)
@click.argument("login")
def revoke(login: str) -> None:
    """Revoke the role of a user."""
    with as_click_exceptions():
        username = user_service.revoke_role(get_runtime().database, _user_id(login), by=None)
    click.echo(gettext("%(name)s has no role now.", name=username))


def _print_credentials(login: str, password: str) -> None:
    labels = gettext("Login"), gettext("Password")
    width = max(map(len, labels)) + 1
    for label, value in zip(labels, (login, password), strict=True):
        click.echo(f"{label + ':':{width}} {value}")


def _user_id(login: str) -> UUID:
    login = clean(login, emails.MAX_LENGTH)
    users = user_service.find_users_by_login(get_runtime().database, login, get_runtime().config.phone_region)
    if not users:
        raise click.ClickException(gettext("No user has the login “%(login)s”.", login=login))
    if len(users) > 1:
        text = gettext("Several users have the login “%(login)s”. Name one of them by its ID:", login=login)
        raise click.ClickException("\n".join([text, *map(_masked_line, users)]))
    return users[0].id


def _masked_line(user: UserDetail) -> str:
    contacts = [mask_valid_phone(user.phone) if user.phone else "", mask_email(user.email) if user.email else ""]
    return "  ".join(filter(None, [f"  {user_service.ID_PREFIX}{user.id}", user.username, *contacts]))
