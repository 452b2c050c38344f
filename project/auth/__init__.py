"""Blueprint of login, logout and the user's own account."""

from project.auth import account
from project.auth.routes import bp

__all__ = ["account", "bp"]
