"""Logs users in and out."""

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from project.database import Database
from project.domain import usernames
from project.domain.emails import MAX_LENGTH as MAX_EMAIL_LENGTH
from project.domain.emails import fold_email, normalize_email
from project.domain.errors import RuleError
from project.domain.passwords import MAX_LENGTH, Passwords
from project.domain.phones import normalize_phone
from project.domain.registration import Account
from project.queries import users as queries


def find_accounts(database: Database, login: str, region: str) -> list[Account]:
    """Return the users with this username, phone number (in any notation) or e-mail address.

    Usually one; several if a username equals another user's e-mail address. The password decides between them.
    """
    return queries.find_accounts(database, login_candidates(login, region))


def authenticate(passwords: Passwords, accounts: Sequence[Account], password: str) -> Account | None:
    """Return the user among the accounts who is active and has this password, or None."""
    if len(password) > MAX_LENGTH:
        return None
    index = passwords.find_match(password, [account.password_hash for account in accounts])
    return accounts[index] if index is not None and accounts[index].is_active else None


def login_candidates(login: str, region: str) -> list[str]:
    """Return the login normalized as a username, a phone number and an e-mail address."""
    login = login.strip()[:MAX_EMAIL_LENGTH].replace("\0", "")
    candidates = {usernames.fold(login)}
    with suppress(RuleError):
        candidates.add(normalize_phone(login, region))
    with suppress(RuleError):
        candidates.add(fold_email(normalize_email(login)))
    return sorted(candidates)


def canonical_login(login: str, region: str) -> str:
    """Return the same form for all spellings of a login, for counters of rate limits."""
    candidates = login_candidates(login, region)
    return next((form for form in candidates if form != usernames.fold(login.strip())), candidates[0])


def find(database: Database, user_id: UUID) -> Account | None:
    """Return the user with this ID, or None."""
    return queries.find_account(database, user_id)


def end_sessions(database: Database, user_id: UUID) -> None:
    """End all sessions of a user, so that copied cookies are invalid, too (ASVS 5.0.0, 7.4.1)."""
    database.write_transaction(queries.end_sessions, user_id)
