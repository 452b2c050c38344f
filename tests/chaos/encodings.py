"""A fake PostgreSQL whose messages are in windows-1251, as on Russian installations."""

import socket
import struct
import threading
from contextlib import suppress

from tests.chaos.processes import HOST

_ENCRYPTION_REQUESTS = (80877103, 80877104)
"""SSLRequest and GSSENCRequest, which the server declines by N (PostgreSQL, "Message Formats")."""
_FIELDS = {b"S": "СБОЙ", b"V": "FATAL", b"C": "57P03", b"M": "система баз данных запускается"}


class RussianServer:
    """A server on a free port that refuses every connection with a Russian message."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._run, name="russian-server", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def _run(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                with client, suppress(OSError):
                    client.settimeout(5)
                    self._refuse(client)

    def _refuse(self, client: socket.socket) -> None:
        while struct.unpack("!ii", client.recv(1024)[:8].ljust(8, b"\0"))[1] in _ENCRYPTION_REQUESTS:
            client.sendall(b"N")
        fields = b"".join(kind + text.encode("cp1251") + b"\0" for kind, text in _FIELDS.items()) + b"\0"
        client.sendall(b"E" + struct.pack("!i", 4 + len(fields)) + fields)
