"""How pages write numbers and dates."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the filters."""
