"""Value types for the administration of users."""

from dataclasses import dataclass
from datetime import datetime

from project.domain.registration import Role, User


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDetail(User):
    """A user with the data that administrators see: also role, state and last login."""

    is_active: bool
    role: Role
    password_changed_at: datetime | None
    """Time of the last change or reset of the password; None while the first one is valid."""
    last_login_at: datetime | None
    """Time of the last login; None before the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFilter:
    """A filter of users. None and an empty text match all users."""

    text: str = ""
    """A user ID; a login, phone number or e-mail address in any spelling; a masked phone number or e-mail address; or a
    part of the login, name or e-mail address."""
    is_active: bool | None = None
    role: Role | None = None
