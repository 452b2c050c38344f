"""DOOR: login and logout."""

from project.auth.routes import bp

__all__ = ["bp"]
