"""DOOR: `flask ...` commands for the people who run the service."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import click
import flask_migrate
from flask import Flask
from flask.cli import AppGroup

from project.domain import usernames
from project.domain.api_keys import check_name
from project.domain.attempts import NewAttempt, new_id
from project.domain.contacts import MAX_EMAIL_LENGTH, mask_email, mask_phone, normalize_email, normalize_phone
from project.domain.errors import FieldError, RefusalError, RuleError
from project.domain.passwords import hash_key, new_key
from project.domain.registration import NewUser
from project.domain.text import clean, trimmed_name
from project.queries.upkeep import find_nothing
from project.services import api_keys as keys
from project.services import attempts, registration
from project.services import users as user_service
from project.spool import survey
from project.web.catalogue import PROBLEMS, detail_text, message_text
from project.web.tools import tools

users = AppGroup("users", help="Manage users.")
api_keys = AppGroup("api-keys", help="Manage keys with which programs call the service.")
log_of_attempts = AppGroup("attempts", help="Look after the log of attempts.")
spool = AppGroup("spool", help="Look after attempts that PostgreSQL could not take yet.")


def init_app(app: Flask) -> None:
    """Add the commands."""
    app.cli.add_command(users)
    app.cli.add_command(api_keys)
    app.cli.add_command(spool)
    app.cli.add_command(log_of_attempts)


def upgrade(app: Flask) -> None:
    """Bring the tables up to date, as `flask db upgrade` does. Raises DatabaseUnavailableError."""
    with app.app_context():
        tools().database.transact(find_nothing)
        flask_migrate.upgrade()


@contextmanager
def _refusals() -> Iterator[None]:
    """Say why something is refused, in the words that pages have for it."""
    try:
        yield
    except RefusalError as error:
        texts = [message_text(one) for one in error.errors] or [_reason(error)]
        raise click.ClickException(" ".join(texts)) from None


def _reason(error: RefusalError) -> str:
    if PROBLEMS[error.code].retryable:
        return detail_text(error.code, "read", {"seconds": 2})
    return detail_text(error.code, error.variant, error.params)


@spool.command("status")
def spool_status() -> None:
    """Show what waits on disk for PostgreSQL to come back.

    \b
    Example:
      flask spool status
    """
    kept = survey(tools().spool.root)
    age = "" if kept.oldest is None else f", the oldest for {max(0, round(time.time() - kept.oldest))} s"
    click.echo(f"{kept.records} attempts wait ({kept.bytes} bytes{age}), {kept.quarantined} in quarantine")


@spool.command("drain")
def spool_drain() -> None:
    """Bring into PostgreSQL what processes left on disk that run no more; a running one drains its own.

    \b
    Example:
      flask spool drain
    """
    with _refusals():
        drained = attempts.drain_orphans(tools().database, tools().spool)
    click.echo(f"{drained} attempts brought in")


@log_of_attempts.command("prune")
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
    with _refusals():
        pruned = attempts.forget_all(tools().database, datetime.now(UTC) - timedelta(days=days))
    click.echo(f"{pruned} attempts older than {days} days forgotten")


def _rule(rule: Callable[[str], str], field: str) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Let click check an option by a rule of the domain, and say what is wrong in the API's own words."""

    def check(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        if not value:
            return None
        try:
            return rule(value)
        except RuleError as error:
            raise click.BadParameter(message_text(FieldError(field, error.code, error.variant, error.params))) from None

    return check


@users.command("create-admin")
@click.option(
    "--username", prompt=True, callback=_rule(usernames.check, "username"), help="Login of the administrator."
)
@click.option(
    "--name", help="Full name; the login when left out.", callback=_rule(lambda n: trimmed_name(n, 300), "name")
)
@click.option("--email", help="E-mail address.", callback=_rule(normalize_email, "email"))
@click.option(
    "--phone", help="Phone number.", callback=_rule(lambda p: normalize_phone(p, tools().config.phone_region), "phone")
)
def create_admin(username: str, name: str | None, email: str | None, phone: str | None) -> None:
    """Create an administrator (Django's createsuperuser) and print the password, once.

    \b
    Examples:
      flask users create-admin --username boss --email boss@example.org
      ./run flask users create-admin
    """
    if not (email or phone):
        email = click.prompt("E-mail", value_proc=_prompted_email)
    new_user = NewUser(name=name or username, username=username, phone=phone, email=email, birth_date=None)
    key = new_key()
    attempt = _attempt(new_user, key)
    with _refusals():
        credentials = registration.register(tools().database, tools().passwords, attempt, key, new_user, is_admin=True)
    click.echo(f"Login:    {credentials.login}\nPassword: {credentials.password}")


def _prompted_email(value: str) -> str:
    try:
        return normalize_email(value)
    except RuleError as error:
        raise click.BadParameter(message_text(FieldError("email", error.code, error.variant, error.params))) from None


def _attempt(new_user: NewUser, key: str) -> NewAttempt:
    """Return the attempt of a user made by command: statistics show it like any other."""
    now = datetime.now(UTC)
    sent = {"name": new_user.name, "username": new_user.username}
    if new_user.phone:
        sent["phone"] = mask_phone(new_user.phone)
    if new_user.email:
        sent["email"] = mask_email(new_user.email)
    return NewAttempt(
        id=new_id(now),
        received_at=now,
        started=time.monotonic(),
        method="CLI",
        language=tools().config.default_language,
        client_address="",
        user_agent="flask users create-admin",
        client_request_id=None,
        key_hash=hash_key(key),
        sent=sent,
    )


@users.command("block")
@click.argument("login")
def block(login: str) -> None:
    """Log a user out everywhere and let them in no more. LOGIN is the username, phone or e-mail.

    \b
    Examples:
      flask users block petrov.ivan
      flask users block "8 999 123-45-67"
    """
    with _refusals():
        username = user_service.block(tools().database, _user_id(login), by=None)
    click.echo(f"{username} is blocked")


@users.command("unblock")
@click.argument("login")
def unblock(login: str) -> None:
    """Let a blocked user in again, with the same password. LOGIN is the username, phone or e-mail.

    \b
    Example:
      flask users unblock petrov.ivan
    """
    with _refusals():
        username = user_service.unblock(tools().database, _user_id(login), by=None)
    click.echo(f"{username} can log in again")


@users.command("reset-password")
@click.argument("login")
def reset_password(login: str) -> None:
    """Issue a new password and print it, once. LOGIN is the username, phone or e-mail.

    \b
    Example:
      flask users reset-password petrov.ivan
    """
    with _refusals():
        found = _user_id(login)
        username, password = user_service.reset_password(tools().database, tools().passwords, found, by=None)
    click.echo(f"Login:    {username}\nPassword: {password}")


def _user_id(login: str) -> UUID:
    login = clean(login, MAX_EMAIL_LENGTH)
    account = user_service.find_by_login(tools().database, login, tools().config.phone_region)
    if account is None:
        raise click.ClickException(f"No user, or no single one, is known by “{login}”")
    return account.id


@api_keys.command("create")
@click.argument("name", callback=_rule(check_name, "name"))
def create_key(name: str | None) -> None:
    """Make a key for a program and print it, once. NAME says what it is for.

    \b
    Example:
      flask api-keys create "shop front"
    """
    if name is None:
        raise click.UsageError("The key needs a name.")
    with _refusals():
        issued = keys.issue(tools().database, name, by=None)
    click.echo(issued.key)


@api_keys.command("list")
def list_keys() -> None:
    """Show all keys: number, state, day of the last use, name. The keys themselves are kept nowhere.

    \b
    Example:
      flask api-keys list
    """
    with _refusals():
        found = keys.find_all(tools().database)
    for key in found:
        state = "revoked" if key.revoked_at else "valid  "
        click.echo(f"{key.id}  {state}  {key.last_used or 'never used'}  {key.name}")


@api_keys.command("revoke")
@click.argument("number", type=click.UUID)
def revoke_key(number: UUID) -> None:
    """Make a key void: programs that use it are refused within seconds. NUMBER is that of `flask api-keys list`.

    \b
    Example:
      flask api-keys revoke 01936b4e-2f6a-7c3e-9b1d-5a8f0c2e4d61
    """
    with _refusals():
        name = keys.revoke(tools().database, number, by=None)
    click.echo(f"“{name}” is revoked")
