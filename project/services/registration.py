"""Creating users."""

from project.domain.attempts import REPLAYED, NewAttempt
from project.domain.errors import DecidedError, IdentifiersTakenError
from project.domain.passwords import Passwords
from project.domain.registration import Credentials, NewUser
from project.outage import Database
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
    """Create the user of this attempt, or raise the refusal that PostgreSQL decided on; both are recorded.

    `key` is the raw idempotency key, of which `attempt.key_hash` is kept: the same key gives the same credentials.
    """
    password = passwords.derive(key, new_user.username)
    decision = database.transact(
        queries.useradd,
        attempt,
        new_user,
        duration_ms=elapsed_ms(attempt),
        kid=passwords.kid,
        password_hash=passwords.hash_generated(password),
        is_admin=is_admin,
    )
    if decision.clashes:
        raise IdentifiersTakenError(decision.clashes)
    if decision.user is None:
        raise DecidedError(decision.code)
    return Credentials(
        login=decision.user.username,
        password=passwords.derive(key, decision.user.username, decision.kid),
        user=decision.user,
        replayed=decision.code == REPLAYED,
    )
