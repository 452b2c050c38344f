"""Finds messages of clients and their SQL in PostgreSQL's wire protocol."""

import struct

_NEGOTIATION_CODES = {80877103, 80877104}
"""SSLRequest and GSSENCRequest: the startup message follows them."""


class Messages:
    """A parser that splits a client's byte stream into whole messages."""

    def __init__(self) -> None:
        self._buffer = b""
        self._typed = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that are now complete; buffer the rest."""
        self._buffer += data
        found = []
        while (end := self._end()) is not None:
            message, self._buffer = self._buffer[:end], self._buffer[end:]
            if not self._typed:
                self._typed = struct.unpack_from("!I", message, 4)[0] not in _NEGOTIATION_CODES
            found.append(message)
        return found

    def _end(self) -> int | None:
        start = 1 if self._typed else 0
        if len(self._buffer) < start + 8 - 4 * self._typed:
            return None
        end = start + int(struct.unpack_from("!I", self._buffer, start)[0])
        return end if len(self._buffer) >= end else None


def statement(message: bytes) -> bytes | None:
    """Return the SQL of a simple query, or None for another message."""
    return message[5:-1] if message[:1] == b"Q" else None
