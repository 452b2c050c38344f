"""Queries and changes of users."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, tuple_, update

from project.database import Database, PreparedStatement, Row
from project.domain.attempts import parse_id
from project.domain.logins import Identifiers
from project.domain.registration import Account, Role
from project.domain.search import spelling_regex, split_words
from project.domain.users import UserDetail, UserFilter
from project.models import Identifier, User
from project.queries.filters import phone_pattern, set_timeout

_DETAIL = tuple(getattr(User, field.name) for field in fields(UserDetail))
_ACCOUNT = tuple(field.name for field in fields(Account))

# Prepared, because every page and every login executes one of these statements.
_ACCOUNTS = f"select {', '.join(_ACCOUNT)} from users"  # noqa: S608 - constants only
_BY_IDENTIFIERS = """
    where id in (
        select user_id from identifiers
          join unnest(array[{}]::text[], array['username', 'phone', 'email']) as login (value, kind) using (value, kind)
    ) order by id
"""
_ACCOUNT_BY_ID = PreparedStatement("find_account", f"{_ACCOUNTS} where id = {{}}", arguments=1)
_ACCOUNTS_BY_IDENTIFIERS = PreparedStatement("find_accounts", f"{_ACCOUNTS} {_BY_IDENTIFIERS}", arguments=3)


def find_accounts(database: Database, identifiers: Identifiers) -> list[Account]:
    """Return the users with one of the identifiers: usually at most one, never more than three."""
    values = (identifiers.username, identifiers.phone, identifiers.email)
    return [_to_account(row) for row in database.read_statement(_ACCOUNTS_BY_IDENTIFIERS, *values)]


def find_account(database: Database, user_id: UUID) -> Account | None:
    """Return the account of this user, or None."""
    rows = database.read_statement(_ACCOUNT_BY_ID, str(user_id))
    return _to_account(rows[0]) if rows else None


def _to_account(row: Row) -> Account:
    values = dict(zip(_ACCOUNT, row, strict=True))
    return Account(**values | {"role": Role(values["role"])})


def find_user(connection: Connection, user_id: UUID) -> UserDetail | None:
    """Return a user with all data except secrets, or None."""
    row = connection.execute(select(*_DETAIL).where(User.id == user_id)).one_or_none()
    return None if row is None else _to_user_detail(row._mapping)


def find_users(
    connection: Connection,
    user_filter: UserFilter,
    identifiers: Identifiers,
    limit: int,
    before: UUID | None,
    *,
    is_exact: bool = False,
) -> list[UserDetail]:
    """Return at most `limit` users older than `before`, newest first.

    `identifiers` are parsed from the text of the filter, unless it is a user ID. With `is_exact`, only users with one
    of the identifiers or this ID are found, otherwise also users with a partial match.
    """
    query = select(*_DETAIL).order_by(User.id.desc()).limit(limit)
    if user_filter.text:
        set_timeout(connection)
    if before is not None:
        query = query.where(User.id < before)
    if user_filter.is_active is not None:
        query = query.where(User.is_active == user_filter.is_active)
    if user_filter.role is not None:
        query = query.where(User.role == user_filter.role)
    if user_filter.text:
        user_id = parse_id(user_filter.text)
        known = identifier_condition(identifiers) if user_id is None else User.id == user_id
        query = query.where(known if is_exact else or_(known, text_condition(user_filter.text)))
    return [_to_user_detail(row._mapping) for row in connection.execute(query)]


def _to_user_detail(values: Mapping[Any, Any]) -> UserDetail:
    return UserDetail(**{**values, "role": Role(values["role"])})


def find_users_by_login(connection: Connection, identifiers: Identifiers) -> list[UserDetail]:
    """Return the users with one of the identifiers."""
    query = select(*_DETAIL).where(identifier_condition(identifiers)).order_by(User.id)
    return [_to_user_detail(row._mapping) for row in connection.execute(query)]


def identifier_condition(identifiers: Identifiers) -> ColumnElement[bool]:
    """Return the SQL condition that a user has one of the identifiers. Uses an index."""
    pairs = [(value, kind) for kind, value in asdict(identifiers).items() if value]
    known = select(Identifier.user_id).where(tuple_(Identifier.value, Identifier.kind).in_(pairs))
    return User.id.in_(known)


def text_condition(text: str) -> ColumnElement[bool]:
    """Return the SQL condition that a user matches a search text. Uses no index.

    The text consists of words, and each word has to be a part of the login, name or e-mail. Or the text is a masked
    phone or e-mail, or the last digits of a phone.
    """
    alternatives = [and_(*map(_word_condition, split_words(text)))]
    if digits := phone_pattern(text):
        alternatives.append(User.phone.regexp_match(digits))
    if "•" in text:
        alternatives.append(User.email.regexp_match(f"^{'.*'.join(map(spelling_regex, text.split('•')))}$"))
    return or_(*alternatives)


def _word_condition(word: str) -> ColumnElement[bool]:
    spelling = spelling_regex(word)
    return or_(*(column.regexp_match(spelling) for column in (User.username, User.name, User.email)))


def lock_administrators(connection: Connection) -> list[UUID]:
    """Lock active administrators until the transaction ends; return their IDs."""
    query = select(User.id).where(User.role == Role.ADMINISTRATOR, User.is_active).order_by(User.id).with_for_update()
    return list(connection.scalars(query))


def change_user(connection: Connection, user_id: UUID, **values: Any) -> str | None:
    """Update columns of a user and end their sessions; return the username, or None if unknown."""
    changed = update(User).where(User.id == user_id).values(epoch=User.epoch + 1, **values).returning(User.username)
    return connection.execute(changed).scalar()


def reset_password(connection: Connection, user_id: UUID, password_hash: str) -> str | None:
    """Set a password and end all sessions; return the username, or None if unknown.

    Later replays of the user's idempotency key return no credentials.
    """
    return change_user(connection, user_id, password_hash=password_hash, password_changed_at=func.now())


def replace_password(connection: Connection, user_id: UUID, old_hash: str, password_hash: str) -> int | None:
    """Replace the password hash `old_hash` and end all sessions; return the new User.epoch.

    Returns None if the user is blocked or has another hash. A retry, which finds its own new hash, succeeds.
    """
    changed = (
        update(User)
        .where(User.id == user_id, User.is_active, User.password_hash.in_([old_hash, password_hash]))
        .values(password_hash=password_hash, password_changed_at=func.now(), epoch=User.epoch + 1)
    )
    return connection.execute(changed.returning(User.epoch)).scalar()


def end_sessions(connection: Connection, user_id: UUID) -> None:
    """Invalidate all sessions of the user. Does nothing if the user is unknown."""
    change_user(connection, user_id)
