"""Creates users."""

from project.database import Database
from project.domain.attempts import CREATED, NewAttempt
from project.domain.errors import DecidedError, IdentifiersTakenError, RefusalError
from project.domain.passwords import Passwords
from project.domain.registration import Credentials, NewUser, User
from project.queries import registration as queries
from project.services.clock import elapsed_ms


def register(
    database: Database,
    passwords: Passwords,
    attempt: NewAttempt,
    key: str,
    new_user: NewUser,
    *,
    is_admin: bool = False,
) -> Credentials:
    """Create a user and record the attempt; return the credentials. Raises RefusalError.

    `key` is the idempotency key whose hash is `attempt.key_hash`; the same key returns the same credentials.
    """
    password = passwords.derive(key, new_user.username)
    decision = queries.useradd(
        database,
        attempt,
        new_user,
        duration_ms=elapsed_ms(attempt),
        kid=passwords.kid,
        password_hash=passwords.hash_generated(password),
        is_admin=is_admin,
    )
    if decision.clashes:
        raise IdentifiersTakenError(decision.clashes)
    if decision.code == CREATED:
        return Credentials(login=new_user.username, password=password, user=_created(attempt, new_user))
    if decision.user is None:
        raise DecidedError(decision.code)
    existing = decision.user
    try:
        password = passwords.derive(key, existing.username, decision.kid)
    except KeyError:  # the secret is no longer configured
        raise RefusalError("credentials_changed") from None
    return Credentials(login=existing.username, password=password, user=existing, replayed=True)


def _created(attempt: NewAttempt, new_user: NewUser) -> User:
    return User(
        id=attempt.id,
        name=new_user.name,
        username=new_user.username,
        phone=new_user.phone,
        email=new_user.email,
        birth_date=new_user.birth_date,
        created_at=attempt.received_at,
    )
