"""Finds and changes users. Changes end the user's sessions and are logged without contacts."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from sqlalchemy import Connection

from project.database import Database
from project.domain.audit import Action, Entry, NewEntry
from project.domain.errors import QueryTimeoutError, RefusalError
from project.domain.password_policy import check_password
from project.domain.passwords import Passwords, new_idempotency_key
from project.domain.registration import Account, Role, User
from project.domain.users import UserDetail, UserFilter
from project.queries import audit
from project.queries import users as queries
from project.queries.audit import add_entry
from project.services.login import parse_identifiers

log = logging.getLogger(__name__)

ID_PREFIX = "id:"
"""Prefix of a user ID where a login is expected. Usernames contain no colon, but may look like an ID."""


class WrongPasswordError(ValueError):
    """The user entered a wrong current password."""


def find_user(database: Database, user_id: UUID) -> UserDetail | None:
    """Return a user without secrets, or None."""
    return database.read_transaction(queries.find_user, user_id)


def find_users(
    database: Database, user_filter: UserFilter, region: str, limit: int, before: UUID | None
) -> tuple[list[UserDetail], bool]:
    """Return up to `limit` users older than `before`, newest first, and whether all were found.

    If the query times out, the second result is False: a search then finds only users with exactly this login, phone or
    e-mail, by an index; without a search text, no users are returned.
    """
    forms = parse_identifiers(user_filter.text, region)
    try:
        return database.read_transaction(queries.find_users, user_filter, forms, limit, before), True
    except QueryTimeoutError:
        if not user_filter.text:
            return [], False
    return database.read_transaction(queries.find_users, user_filter, forms, limit, before, is_exact=True), False


def find_last_blocks(database: Database, users: Iterable[UserDetail]) -> dict[UUID, Entry]:
    """Return the audit entry of the last block of each blocked user, by user ID."""
    blocked = [user.id for user in users if not user.is_active]
    return database.read_transaction(audit.find_last_blocks, blocked) if blocked else {}


def find_users_by_login(database: Database, login: str, region: str) -> list[UserDetail]:
    """Return the users with this username, phone number, e-mail address, or ID after `id:`.

    Usually there is at most one. There are several if a username equals another user's phone or e-mail; then the
    operator has to enter an ID.
    """
    with suppress(ValueError):
        if login.startswith(ID_PREFIX):
            user = find_user(database, UUID(login.removeprefix(ID_PREFIX)))
            return [] if user is None else [user]
    return database.read_transaction(queries.find_users_by_login, parse_identifiers(login, region))


def block_user(database: Database, user_id: UUID, by: UUID | None) -> str:
    """Block a user; return the username.

    `by` is the ID of the administrator, None for the command line. Raises RefusalError `not_found`, or
    `forbidden` if `user_id` is `by` or the last active administrator.
    """
    return _change_user("user blocked", Action.USER_BLOCKED, database, user_id, by, is_active=False)


def unblock_user(database: Database, user_id: UUID, by: UUID | None) -> str:
    """Unblock a user; return the username. Raises RefusalError `not_found`."""
    return _change_user("user unblocked", Action.USER_UNBLOCKED, database, user_id, by, is_active=True)


def grant_role(database: Database, user_id: UUID, role: Role, by: UUID | None) -> str:
    """Replace the role of a user; return the username. Raises the errors of block_user()."""
    return _change_user("role granted", Action.ROLE_GRANTED, database, user_id, by, role=role)


def revoke_role(database: Database, user_id: UUID, by: UUID | None) -> str:
    """Set the role of a user to USER; return the username. Raises the errors of block_user()."""
    return _change_user("role revoked", Action.ROLE_REVOKED, database, user_id, by, role=Role.USER)


def reset_password(
    database: Database, passwords: Passwords, user_id: UUID, by: UUID | None, key: str | None = None
) -> tuple[str, str]:
    """Set a new generated password; return username and password.

    Only the hash is stored. If `key` is given, the password is derived from `key`, so that find_issued_password() can
    return it again. Raises RefusalError `not_found`, or `forbidden` if `by` is `user_id`.
    """
    if by == user_id:
        raise RefusalError("forbidden", "oneself")
    account = queries.find_account(database, user_id)
    if account is None:
        raise RefusalError("not_found")
    password = passwords.derive(key or new_idempotency_key(), account.username)
    password_hash = passwords.hash_generated(password)
    entry = NewEntry.by_user(Action.PASSWORD_RESET, by, user_id, account.username)
    if not database.write_transaction(_reset_password, user_id, password_hash, entry):
        raise RefusalError("not_found")
    _log("password reset", user_id, by)
    return account.username, password


def find_issued_password(database: Database, passwords: Passwords, user_id: UUID, key: str) -> str | None:
    """Return the password that reset_password() set with this key.

    Returns None if the password or the secret was changed since, or the user does not exist.
    """
    account = queries.find_account(database, user_id)
    if account is None:
        return None
    password = passwords.derive(key, account.username)
    return password if passwords.verify(password, account.password_hash) else None


def change_password(
    database: Database, passwords: Passwords, account: Account, user: User, current: str, new: str
) -> Account:
    """Set a password that the user has chosen; return the changed account.

    A new Account.epoch ends all sessions of the user. Raises WeakPasswordError, and WrongPasswordError also if the
    password was changed or the user blocked meanwhile. Hashing is slow, so it happens before the transaction.
    """
    if not passwords.verify(current, account.password_hash):
        raise WrongPasswordError
    check_password(new, user)
    password_hash = passwords.hash_chosen(new)
    epoch = database.write_transaction(queries.replace_password, account.id, account.password_hash, password_hash)
    if epoch is None:
        raise WrongPasswordError
    _log("password changed", account.id, account.id)
    return replace(account, password_hash=password_hash, epoch=epoch)


def _change_user(
    event: str, action: Action, database: Database, user_id: UUID, by: UUID | None, **values: bool | Role
) -> str:
    granted: dict[str, str | int] = {"role": str(values["role"])} if action is Action.ROLE_GRANTED else {}
    entry = NewEntry.by_user(action, by, user_id, details=granted)
    username = database.write_transaction(_change_safely, user_id, by, values, entry)
    _log(event, user_id, by, **{name: value for name, value in values.items() if name == "role"})
    return username


def _reset_password(connection: Connection, user_id: UUID, password_hash: str, entry: NewEntry) -> str | None:
    username = queries.reset_password(connection, user_id, password_hash)
    if username is not None:
        add_entry(connection, entry)
    return username


def _change_safely(
    connection: Connection, user_id: UUID, by: UUID | None, values: dict[str, bool | Role], entry: NewEntry
) -> str:
    if values.get("is_active") is False or values.get("role", Role.ADMINISTRATOR) is not Role.ADMINISTRATOR:
        if by == user_id:
            raise RefusalError("forbidden", "oneself")
        if queries.lock_administrators(connection) == [user_id]:
            raise RefusalError("forbidden", "last_admin")
    username = queries.change_user(connection, user_id, **values)
    if username is None:
        raise RefusalError("not_found")
    add_entry(connection, replace(entry, target=username))
    return username


def _log(event: str, user_id: UUID, by: UUID | None, **fields: object) -> None:
    log.info(event, extra={"user_id": str(user_id), "by": "cli" if by is None else str(by)} | fields)
