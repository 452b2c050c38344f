"""How large a file will be, told before it is made."""

_OF_ROW = {"txt": 170, "csv": 190, "xlsx": 44}
_OF_REST = {"txt": 2_000, "csv": 100, "xlsx": 14_000}
"""Bytes, measured over a million attempts as services have them; masks and names in Cyrillic count double."""


def expected_size(ending: str, rows: int) -> int:
    """Return about how many bytes a file of so many attempts takes."""
    return _OF_REST[ending] + _OF_ROW[ending] * rows
