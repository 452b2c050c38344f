"""Log users in and out."""

from contextlib import suppress
from uuid import UUID

from project.database import Database
from project.domain import usernames
from project.domain.contacts import MAX_EMAIL_LENGTH, normalize_email, normalize_phone
from project.domain.errors import RuleError
from project.domain.passwords import MAX_LENGTH, Passwords
from project.domain.registration import Account
from project.queries import users as queries


def authenticate(database: Database, passwords: Passwords, login: str, password: str, region: str) -> Account | None:
    """Return the active user, or None; does not reveal which of login and password is wrong.

    `login` is a username, a phone number in any notation or an e-mail address, in any letter case.
    """
    if len(password) > MAX_LENGTH:
        return None
    accounts = queries.find_accounts(database, login_candidates(login, region))
    index = passwords.find_match(password, [account.password_hash for account in accounts])
    return accounts[index] if index is not None and accounts[index].is_active else None


def login_candidates(login: str, region: str) -> list[str]:
    """Return the normalized username, phone number and e-mail address that this login may be."""
    login = login.strip()[:MAX_EMAIL_LENGTH].replace("\0", "")
    candidates = {usernames.fold(login)}
    with suppress(RuleError):
        candidates.add(normalize_phone(login, region))
    with suppress(RuleError):
        candidates.add(normalize_email(login))
    return sorted(candidates)


def find(database: Database, user_id: UUID) -> Account | None:
    """Return the user with this ID, or None."""
    return queries.find_account(database, user_id)


def end_sessions(database: Database, user_id: UUID) -> None:
    """End all sessions of a user: logout invalidates copied cookies (ASVS 5.0.0, 7.4.1)."""
    database.write_transaction(queries.end_sessions, user_id)
