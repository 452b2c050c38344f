"""Judges: independent programs that check what the service produces."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder: they need what `python -m tasks.judges install` installs."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("judges")
