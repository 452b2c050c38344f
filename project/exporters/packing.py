"""Creates zip archives as streams."""

from collections.abc import Iterable, Iterator
from zipfile import ZIP_DEFLATED, ZipFile

Part = tuple[str, Iterable[bytes]]
"""Name and content."""
LEVEL = 1
"""Compression level: higher levels take much longer and save few bytes."""


class _StreamBuffer:
    """A write-only buffer, which zipfile treats as a stream without seek()."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        """Do nothing. zipfile calls this method."""

    close = flush

    def drain(self) -> bytes:
        """Return the bytes written since the last call."""
        written = bytes(self._written)
        self._written.clear()
        return written


def pack(parts: Iterable[Part]) -> Iterator[bytes]:
    """Yield a zip archive of these parts in blocks.

    The size of a part is written after it. Raises RuntimeError if a part has 2 GiB or more: this would need 64-bit
    sizes, and Excel reports a streamed archive with them as damaged.
    """
    buffer = _StreamBuffer()
    with ZipFile(buffer, "w", ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for name, blocks in parts:
            with archive.open(name, "w") as part:
                for block in blocks:
                    part.write(block)
                    yield buffer.drain()
    yield buffer.drain()
