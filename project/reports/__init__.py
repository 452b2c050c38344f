"""Blueprint of statistics, attempts and downloads."""

from project.reports import api, exports
from project.reports.openapi import describe_endpoints
from project.reports.routes import bp

__all__ = ["api", "bp", "describe_endpoints", "exports"]
