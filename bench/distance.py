"""A proxy that makes PostgreSQL seem far away: it delays data in each direction."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from bench.load import HOST

_CHUNK = 65536


@contextmanager
def delaying_proxy(url: str, seconds: float) -> Iterator[str]:
    """Yield the URL of a proxy of a database. It delays data by `seconds` in each direction."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    target = urlsplit(url)
    proxy = _Proxy(target.port or 5432, seconds)
    port = asyncio.run_coroutine_threadsafe(proxy.start(), loop).result()
    yield url.replace(f":{target.port}/", f":{port}/")
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


class _Proxy:
    def __init__(self, port: int, seconds: float) -> None:
        self._port = port
        self._seconds = seconds

    async def start(self) -> int:
        """Start to accept connections; return the port."""
        server = await asyncio.start_server(self._connect, HOST, 0)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, self._port)
        await asyncio.gather(self._forward(reader, far_writer), self._forward(far_reader, writer))

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Write each part of the data `seconds` after its arrival, independent of earlier parts."""
        loop = asyncio.get_running_loop()
        while data := await reader.read(_CHUNK):
            loop.call_later(self._seconds, writer.write, data)
        loop.call_later(self._seconds, writer.close)
