"""Creates zip archives as streams."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO
from zipfile import ZIP_DEFLATED, ZipFile

Part = tuple[str, Iterable[bytes]]
"""Name and content of a file in an archive."""
COMPRESSION_LEVEL = 2
"""Level of zlib. Level 1 is no faster for worksheets; higher levels make files only a little smaller."""


class _StreamBuffer:
    """A write-only buffer. It has no seek(), so zipfile treats it as a stream."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        """Do nothing. zipfile requires this method."""

    close = flush

    def drain(self) -> bytes:
        """Return the bytes written since the last call."""
        written = bytes(self._written)
        self._written.clear()
        return written


def pack(parts: Iterable[Part]) -> Iterator[bytes]:
    """Yield a zip archive of these parts in blocks.

    The size of a part is written after its content. Raises RuntimeError if a part has 2 GiB or more: it would need
    64-bit sizes, and Excel reports a streamed archive with 64-bit sizes as damaged.
    """
    buffer = _StreamBuffer()
    with (
        ThreadPoolExecutor(1, "packing") as executor,
        ZipFile(buffer, "w", ZIP_DEFLATED, compresslevel=COMPRESSION_LEVEL) as archive,
    ):
        for name, blocks in parts:
            with archive.open(name, "w") as part:
                yield from _write(part, blocks, buffer, executor)
    yield buffer.drain()


def _write(
    part: IO[bytes], blocks: Iterable[bytes], buffer: _StreamBuffer, executor: ThreadPoolExecutor
) -> Iterator[bytes]:
    """Yield a compressed part in blocks.

    A thread compresses each block while the next one is created, because zlib releases the GIL.
    """

    def pack_block(block: bytes) -> bytes:
        part.write(block)
        return buffer.drain()

    pending: Future[bytes] | None = None
    try:
        for block in blocks:
            packed, pending = pending, executor.submit(pack_block, block)
            if packed is not None:
                yield packed.result()
    finally:
        if pending is not None:
            pending.exception()  # waits: the part must not be closed while the thread writes to it
    if pending is not None:
        yield pending.result()
