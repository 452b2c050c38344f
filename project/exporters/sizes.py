"""Expected sizes of files."""

_BYTES_PER_ROW = {"txt": 170, "csv": 190, "xlsx": 44}
_BYTES_WITHOUT_ROWS = {"txt": 2_000, "csv": 100, "xlsx": 14_000}
"""Measured with a million typical attempts; masks and Cyrillic names take two bytes per character."""


def expected_size(ending: str, rows: int) -> int:
    """Return the approximate size of a file in bytes."""
    return _BYTES_WITHOUT_ROWS[ending] + _BYTES_PER_ROW[ending] * rows
