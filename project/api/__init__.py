"""Blueprint of the JSON API: POST /useradd and /useradd/bulk."""

from project.api import bulk  # noqa: F401 - registers its view
from project.api.openapi import describe_endpoints
from project.api.routes import bp

__all__ = ["bp", "describe_endpoints"]
