"""Entries of the audit log: who did what to whom, and when."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from project.domain.attempts import new_id


class ActorKind(StrEnum):
    """Kind of an actor: a user, a program with an API key, or the command line."""

    USER = "user"
    API_KEY = "api_key"
    COMMAND = "command"


class Action(StrEnum):
    """The action that an entry records."""

    USER_BLOCKED = "user_blocked"
    USER_UNBLOCKED = "user_unblocked"
    ROLE_GRANTED = "role_granted"
    ROLE_REVOKED = "role_revoked"
    PASSWORD_RESET = "password_reset"  # noqa: S105 - no password
    ADMINISTRATOR_CREATED = "administrator_created"
    KEY_CREATED = "key_created"
    KEY_REVOKED = "key_revoked"
    DOWNLOADED = "downloaded"
    IMPORTED = "imported"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """An entry to insert into the audit log. It never contains secrets or contacts."""

    action: Action
    actor_kind: ActorKind
    actor_id: UUID | None = None
    """ID of the user or API key that acted; None for the command line."""
    target_id: UUID | None = None
    """ID of what was changed; None if the action, such as a download, changes nothing."""
    target: str | None = None
    """Login of the user or name of the key that was changed, otherwise None."""
    details: Mapping[str, str | int] = field(default_factory=dict)
    id: UUID = field(default_factory=lambda: new_id(datetime.now(UTC)))
    """UUIDv7. A retry inserts the same ID, so that the entry is stored only once."""

    @classmethod
    def by_user(
        cls,
        action: Action,
        by: UUID | None,
        target_id: UUID | None = None,
        target: str | None = None,
        details: Mapping[str, str | int] | None = None,
    ) -> "NewEntry":
        """Return an entry about an action of the user `by`, or of the command line if `by` is None."""
        kind = ActorKind.COMMAND if by is None else ActorKind.USER
        return cls(
            action=action, actor_kind=kind, actor_id=by, target_id=target_id, target=target, details=details or {}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(NewEntry):
    """An entry as it is stored in the audit log."""

    at: datetime
    """Time of the action, by PostgreSQL's clock."""
    actor: str | None
    """Login of the user or name of the key when the entry was written; None for the command line."""
