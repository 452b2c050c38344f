"""Logging in and out."""

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
    """Return the active user whom this login and password open, or None without telling which of them was wrong.

    `login` is a username, a phone number in any spelling or an e-mail address, in any letter case.
    """
    if len(password) > MAX_LENGTH:
        return None
    accounts = queries.find_accounts(database, identifiers(login, region))
    opened = passwords.find_match(password, [account.password_hash for account in accounts])
    return accounts[opened] if opened is not None and accounts[opened].is_active else None


def identifiers(login: str, region: str) -> list[str]:
    """Return every folded form under which this login may be known."""
    login = login.strip()[:MAX_EMAIL_LENGTH].replace("\0", "")
    forms = {usernames.fold(login)}
    with suppress(RuleError):
        forms.add(normalize_phone(login, region))
    with suppress(RuleError):
        forms.add(normalize_email(login))
    return sorted(forms)


def find(database: Database, user_id: UUID) -> Account | None:
    """Return the user with this id."""
    return queries.find_account(database, user_id)


def end_sessions(database: Database, user_id: UUID) -> None:
    """Log the user out everywhere: a copied cookie must not work after a logout (ASVS 5.0.0, 7.4.1)."""
    database.write_transaction(queries.end_sessions, user_id)
