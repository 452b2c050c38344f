"""Creates zip archives as streams."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO
from zipfile import ZIP_DEFLATED, ZipFile

Part = tuple[str, Iterable[bytes]]
"""Name and content."""
LEVEL = 2
"""Compression level. Level 1 is no faster for cells with references; higher levels cost more time than they save."""


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
    with (
        ThreadPoolExecutor(1, "packing") as executor,
        ZipFile(buffer, "w", ZIP_DEFLATED, compresslevel=LEVEL) as archive,
    ):
        for name, blocks in parts:
            with archive.open(name, "w") as part:
                yield from _write(part, blocks, buffer, executor)
    yield buffer.drain()


def _write(
    part: IO[bytes], blocks: Iterable[bytes], buffer: _StreamBuffer, executor: ThreadPoolExecutor
) -> Iterator[bytes]:
    """Yield a part in blocks.

    A thread packs each block while the next one is made: zlib needs no GIL.
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
            pending.exception()  # not before the thread is done with it may the part be closed
    if pending is not None:
        yield pending.result()
