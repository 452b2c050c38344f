"""DOOR: statistics, attempts and downloads."""

from apispec import APISpec

from project.reports.routes import bp

__all__ = ["bp", "describe"]


def describe(spec: APISpec) -> None:
    """Nothing yet."""
