"""Lines into blocks of bytes: few enough for the network, small enough for memory."""

from collections.abc import Iterable, Iterator
from itertools import islice

BLOCK = 500
"""Lines in a block: about 60 KB, so that a stream keeps next to nothing in memory and the server is not asked often."""


def encoded(lines: Iterable[str], ending: str) -> Iterator[bytes]:
    """Yield the lines in UTF-8, some hundred at once, each with its ending."""
    left = iter(lines)
    while block := list(islice(left, BLOCK)):
        # A lone surrogate (half of an emoji) has no UTF-8 form; one bad value must not break off the file.
        yield "".join(f"{line}{ending}" for line in block).encode("utf-8", "replace")
