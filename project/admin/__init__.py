"""Blueprint of the administration pages: state, users, keys, audit log (docs/adr/0028)."""

from project.admin import api_keys, audit, imports, users
from project.admin.routes import bp

__all__ = ["api_keys", "audit", "bp", "imports", "users"]
