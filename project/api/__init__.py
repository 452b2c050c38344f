"""Blueprint of the JSON API: POST /useradd."""

from project.api.openapi import describe
from project.api.routes import bp

__all__ = ["bp", "describe"]
