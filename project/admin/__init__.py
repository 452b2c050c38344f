"""Blueprint of the pages of administration: users, imports, API keys, audit log (ADR 28)."""

from project.admin import api_keys, audit, imports, users
from project.admin.routes import bp

__all__ = ["api_keys", "audit", "bp", "imports", "users"]
