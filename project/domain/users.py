"""Users as administrators see them."""

from dataclasses import dataclass
from datetime import datetime

from project.domain.registration import Role, User


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDetail(User):
    """Everything about a user that is not secret."""

    is_active: bool
    role: Role
    password_changed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFilter:
    """Which users a list shows; None and the empty text mean any."""

    text: str = ""
    """A login, phone number or e-mail address in any spelling, or a part of the login or name."""
    is_active: bool | None = None
    role: Role | None = None
