"""Zip archives that are streamed while they are created."""

from collections.abc import Iterable, Iterator
from zipfile import ZIP_DEFLATED, ZipFile

Part = tuple[str, Iterable[bytes]]
"""Name and content."""
LEVEL = 1
"""Compression level: higher levels cost more time than they save bytes."""


class _StreamBuffer:
    """A write-only buffer that looks like an unseekable stream to zipfile."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        """Do nothing: zipfile requires it."""

    close = flush

    def drain(self) -> bytes:
        """Return the bytes written since the last call."""
        written = bytes(self._written)
        self._written.clear()
        return written


def pack(parts: Iterable[Part]) -> Iterator[bytes]:
    """Yield an archive of these parts in blocks. Sizes, unknown in advance, follow the parts.

    Raises RuntimeError for parts of 2 GiB and more: a stream would need 64-bit sizes, and Excel reports such an archive
    as damaged.
    """
    buffer = _StreamBuffer()
    with ZipFile(buffer, "w", ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for name, blocks in parts:
            with archive.open(name, "w") as part:
                for block in blocks:
                    part.write(block)
                    yield buffer.drain()
    yield buffer.drain()
