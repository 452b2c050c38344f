"""Users, as login needs them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, select, update

from project.domain.registration import Account
from project.models import Identifier, User

_ACCOUNT = (User.id, User.username, User.password_hash, User.epoch, User.is_active, User.is_admin)


def find_accounts(connection: Connection, identifiers: Sequence[str]) -> list[Account]:
    """Return the users who are known by one of the folded `identifiers`: usually one, three at the most.

    One person's username may read like another's e-mail; the password tells them apart.
    """
    query = select(*_ACCOUNT).distinct().join(Identifier, Identifier.user_id == User.id)
    rows = connection.execute(query.where(Identifier.value.in_(identifiers)).order_by(User.id))
    return [Account(**row._mapping) for row in rows]


def find_account(connection: Connection, user_id: UUID) -> Account | None:
    """Return the user with this id."""
    row = connection.execute(select(*_ACCOUNT).where(User.id == user_id)).one_or_none()
    return None if row is None else Account(**row._mapping)


def end_sessions(connection: Connection, user_id: UUID) -> None:
    """Make every session of the user void, wherever its cookie is."""
    connection.execute(update(User).where(User.id == user_id).values(epoch=User.epoch + 1))
