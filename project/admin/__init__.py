"""Blueprint of the administration pages: service state, users, API keys (docs/adr/0028)."""

from project.admin import api_keys, users
from project.admin.routes import bp

__all__ = ["api_keys", "bp", "users"]
