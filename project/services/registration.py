"""Creates users, or, if a request is a retry, returns the same credentials again."""

from collections.abc import Hashable, Sequence

from project.database import Database, Member
from project.domain.attempts import CREATED, NewAttempt
from project.domain.errors import IdentifiersTakenError, RecordedRefusalError, RefusalError
from project.domain.passwords import Passwords
from project.domain.registration import Credentials, Decision, NewUser, Registration, User
from project.queries import registration as queries

MAX_GROUP_SIZE = 100
"""Maximum number of registrations per transaction of register_many()."""


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

    `key` is the idempotency key whose hash is `attempt.key_hash`. A repeated call with the same key and user returns
    the same credentials. Concurrent calls share transactions (docs/adr/0033).
    """
    registration = Registration(attempt=attempt, key=key, new_user=new_user, is_admin=is_admin)
    password = passwords.derive(key, new_user.username)
    decision = queries.useradd(database, _member(passwords, registration, password))
    return _credentials(passwords, registration, password, decision)


def register_many(
    database: Database, passwords: Passwords, registrations: Sequence[Registration]
) -> list[Credentials | Exception]:
    """Create several users, each like register(); return credentials or exceptions.

    Results are in the order of the registrations. An exception concerns only the registration at its position.
    """
    issued = [passwords.derive(one.key, one.new_user.username) for one in registrations]
    members = [_member(passwords, *one) for one in zip(registrations, issued, strict=True)]
    results: dict[int, Credentials | Exception] = {}
    for group in _split_disjoint(members):
        decisions = queries.useradd_group(database, [members[index] for index in group])
        for index, decision in zip(group, decisions, strict=True):
            results[index] = _credentials_or_error(passwords, registrations[index], issued[index], decision)
    return [results[index] for index in range(len(registrations))]


def _split_disjoint(members: Sequence[Member]) -> list[list[int]]:
    """Divide members into groups without common claims; return the indexes of the members.

    A claim is a value that must be unique, such as a phone number. If two members have a common claim, the first one
    takes precedence: it is in an earlier group. A group has at most MAX_GROUP_SIZE members.
    """
    groups: list[list[int]] = []
    last: dict[Hashable, int] = {}  # claim -> number of the last group that has it
    for index, member in enumerate(members):
        number = max((last[claim] + 1 for claim in member.claims if claim in last), default=0)
        while number < len(groups) and len(groups[number]) == MAX_GROUP_SIZE:
            number += 1
        if number == len(groups):
            groups.append([])
        groups[number].append(index)
        last.update(dict.fromkeys(member.claims, number))
    return groups


def _member(passwords: Passwords, registration: Registration, password: str) -> Member:
    return queries.useradd_member(
        registration.attempt,
        registration.new_user,
        duration_ms=registration.attempt.elapsed_ms(),
        kid=passwords.kid,
        password_hash=passwords.hash_generated(password),
        is_admin=registration.is_admin,
    )


def _credentials_or_error(
    passwords: Passwords, registration: Registration, password: str, decision: Decision | Exception
) -> Credentials | Exception:
    if isinstance(decision, Exception):
        return decision
    try:
        return _credentials(passwords, registration, password, decision)
    except RefusalError as refusal:
        return refusal


def _credentials(passwords: Passwords, registration: Registration, password: str, decision: Decision) -> Credentials:
    """Return the credentials of the created or replayed user. Raises RefusalError."""
    attempt, new_user = registration.attempt, registration.new_user
    if decision.taken_fields:
        raise IdentifiersTakenError(decision.taken_fields)
    if decision.code == CREATED:
        user = _created_user(attempt, new_user)
        return Credentials(login=new_user.username, password=password, kid=passwords.kid, user=user)
    if decision.user is None:
        raise RecordedRefusalError(decision.code)
    existing, kid = decision.user, decision.kid or passwords.kid
    try:
        password = passwords.derive(registration.key, existing.username, kid)
    except KeyError:  # the secret is no longer configured
        raise RefusalError("credentials_changed") from None
    return Credentials(login=existing.username, password=password, kid=kid, user=existing, replayed=True)


def _created_user(attempt: NewAttempt, new_user: NewUser) -> User:
    return User(
        id=attempt.id,
        name=new_user.name,
        username=new_user.username,
        phone=new_user.phone,
        email=new_user.email,
        birth_date=new_user.birth_date,
        created_at=attempt.received_at,
    )
