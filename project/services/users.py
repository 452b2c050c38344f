"""Change existing users. Each change ends their sessions and is logged without personal data."""

import logging
from dataclasses import replace
from uuid import UUID

from sqlalchemy import Connection

from project.database import Database
from project.domain import usernames
from project.domain.errors import QueryTimeoutError, RefusalError
from project.domain.password_policy import check
from project.domain.passwords import Passwords, new_key
from project.domain.registration import Account, Role, User
from project.domain.users import UserDetail, UserFilter
from project.queries import users as queries
from project.services.login import login_candidates

log = logging.getLogger(__name__)


class WrongPasswordError(ValueError):
    """The current password is wrong."""


def find(database: Database, user_id: UUID) -> UserDetail | None:
    """Return a user without secrets, or None."""
    return database.read_transaction(queries.find_user, user_id)


def find_many(
    database: Database, user_filter: UserFilter, region: str, limit: int, before: UUID | None
) -> tuple[list[UserDetail], bool]:
    """Return at most `limit` users older than `before`, newest first, and whether the search was completed.

    If it timed out, only users whose login, phone or e-mail is the text are returned: an index finds them.
    """
    forms = login_candidates(user_filter.text, region)
    try:
        return database.read_transaction(queries.find_users, user_filter, forms, limit, before), True
    except QueryTimeoutError:
        if not user_filter.text:
            return [], False
    return database.read_transaction(queries.find_users, user_filter, forms, limit, before, exact=True), False


def find_by_login(database: Database, login: str, region: str) -> Account | None:
    """Return the user with this login, None if there is none or more than one.

    Tries the username first, then a phone number in any notation or an e-mail address.
    """
    accounts = queries.find_accounts(database, login_candidates(login, region))
    folded = usernames.fold(login)
    by_username = [account for account in accounts if usernames.fold(account.username) == folded]
    matches = by_username or accounts
    return matches[0] if len(matches) == 1 else None


def block(database: Database, user_id: UUID, by: UUID | None) -> str:
    """Block a user and return the username. `by` is the administrator, None for the command line.

    This and the following raise RefusalError: `not_found`, or `forbidden` if the service would lose its last
    administrator or `by` would block, demote or reset themselves.
    """
    return _change("user blocked", database, user_id, by, is_active=False)


def unblock(database: Database, user_id: UUID, by: UUID | None) -> str:
    """Unblock a user and return the username."""
    return _change("user unblocked", database, user_id, by, is_active=True)


def grant(database: Database, user_id: UUID, role: Role, by: UUID | None) -> str:
    """Give a user a role in place of the former one; return the username."""
    return _change("role granted", database, user_id, by, role=role)


def revoke(database: Database, user_id: UUID, by: UUID | None) -> str:
    """Make an auditor or administrator an ordinary user; return the username."""
    return _change("role revoked", database, user_id, by, role=Role.USER)


def reset_password(database: Database, passwords: Passwords, user_id: UUID, by: UUID | None) -> tuple[str, str]:
    """Issue a new password; return username and password, which is stored only as a hash."""
    if by == user_id:
        raise RefusalError("forbidden", "oneself")
    account = queries.find_account(database, user_id)
    if account is None:
        raise RefusalError("not_found")
    password = passwords.derive(new_key(), account.username)
    hashed = passwords.hash_generated(password)
    if not database.write_transaction(queries.reset_password, user_id, hashed):
        raise RefusalError("not_found")
    _log("password reset", user_id, by)
    return account.username, password


def change_password(
    database: Database, passwords: Passwords, account: Account, user: User, current: str, new: str
) -> Account:
    """Set the password that a user chose; return the account with its new epoch, which ends older sessions.

    Raises WrongPasswordError or WeakPasswordError. Hashes before the transaction, because that is slow.
    """
    if not passwords.verify(current, account.password_hash):
        raise WrongPasswordError
    check(new, user)
    hashed = passwords.hash_chosen(new)
    epoch = database.write_transaction(queries.replace_password, account.id, account.password_hash, hashed)
    if epoch is None:
        raise WrongPasswordError
    _log("password changed", account.id, account.id)
    return replace(account, password_hash=hashed, epoch=epoch)


def _change(event: str, database: Database, user_id: UUID, by: UUID | None, **values: bool | Role) -> str:
    username = database.write_transaction(_change_safely, user_id, by, values)
    _log(event, user_id, by, **{name: value for name, value in values.items() if name == "role"})
    return username


def _change_safely(connection: Connection, user_id: UUID, by: UUID | None, values: dict[str, bool | Role]) -> str:
    if values.get("is_active") is False or values.get("role", Role.ADMINISTRATOR) is not Role.ADMINISTRATOR:
        if by == user_id:
            raise RefusalError("forbidden", "oneself")
        if queries.lock_administrators(connection) == [user_id]:
            raise RefusalError("forbidden", "last_admin")
    username = queries.change_user(connection, user_id, **values)
    if username is None:
        raise RefusalError("not_found")
    return username


def _log(event: str, user_id: UUID, by: UUID | None, **fields: object) -> None:
    log.info(event, extra={"user_id": str(user_id), "by": "cli" if by is None else str(by)} | fields)
