"""Blueprint of the administration: users, imports, API keys, audit log (docs/adr/0028)."""

from project.admin import api_keys, audit, imports, users
from project.admin.routes import bp

__all__ = ["api_keys", "audit", "bp", "imports", "users"]
