"""Finds and authenticates users by login and password, and ends sessions."""

from collections.abc import Sequence
from uuid import UUID

from project.database import Database
from project.domain.emails import MAX_LENGTH as MAX_EMAIL_LENGTH
from project.domain.logins import Identifiers, parse_login
from project.domain.passwords import MAX_LENGTH, Passwords
from project.domain.registration import Account
from project.domain.text import trim
from project.queries import users as queries


def find_accounts(database: Database, login: str, region: str) -> list[Account]:
    """Return the users with this username, phone number (in any notation) or e-mail address.

    Usually there is at most one. There are several if a username equals another user's phone or e-mail; authenticate()
    then selects the user with the right password.
    """
    return queries.find_accounts(database, parse_identifiers(login, region))


def authenticate(passwords: Passwords, accounts: Sequence[Account], password: str) -> Account | None:
    """Return the account with this password; None if no account has it or the user is blocked."""
    if len(password) > MAX_LENGTH:
        return None
    index = passwords.find_matching_hash(password, [account.password_hash for account in accounts])
    return accounts[index] if index is not None and accounts[index].is_active else None


def parse_identifiers(login: str, region: str) -> Identifiers:
    """Parse a login as username, phone and e-mail, ignoring surrounding blanks."""
    return parse_login(trim(login)[:MAX_EMAIL_LENGTH].replace("\0", ""), region)


def find_account(database: Database, user_id: UUID) -> Account | None:
    """Return the user with this ID, or None."""
    return queries.find_account(database, user_id)


def end_sessions(database: Database, user_id: UUID) -> None:
    """End all sessions of a user, so that copied cookies become invalid (ASVS 5.0.0, 7.4.1)."""
    database.write_transaction(queries.end_sessions, user_id)
