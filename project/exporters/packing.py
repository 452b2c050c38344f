"""A zip archive that leaves while it is being made."""

from collections.abc import Iterable, Iterator
from zipfile import ZIP_DEFLATED, ZipFile

Part = tuple[str, Iterable[bytes]]
"""Name and content."""
LEVEL = 1
"""Of compression: the next ones cost more time than they save bytes."""


class _Way:
    """A file that can only be written, and emptied: for zipfile, a network connection."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Whoever reads closes."""

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


def pack(parts: Iterable[Part]) -> Iterator[bytes]:
    """Yield an archive of these parts in blocks, each part's size behind it, since nobody knows it before.

    Parts of 2 GiB and more are refused (RuntimeError): for them a stream needs sizes of 64 bits, and Excel takes such
    an archive for a damaged one.
    """
    way = _Way()
    with ZipFile(way, "w", ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for name, blocks in parts:
            with archive.open(name, "w") as part:
                for block in blocks:
                    part.write(block)
                    yield way.take()
    yield way.take()
