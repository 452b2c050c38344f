"""Parses requests, stricter than waitress 3.0.2, and refuses late and incomplete ones."""

from copy import copy
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError, get_header_lines
from waitress.receiver import ChunkedReceiver
from waitress.utilities import BadRequest, Error

SUPPORTED_VERSIONS = {"1.0", "1.1"}
MAX_CHUNK_LINE_BYTES = 1024
"""Maximum length of the line with the size and extensions of a chunk while its end has not arrived."""
BODY_ALLOWANCE = 2**20
"""Excess in bytes over the limit of its path at which the server refuses a body: the application, which
refuses smaller excesses, also records them."""


class RequestTimeoutError(Error):  # type: ignore[misc]  # waitress has no types
    """Response to a request that did not arrive in time."""

    code = 408
    reason = "Request Timeout"


class VersionNotSupportedError(Error):  # type: ignore[misc]
    """Response to a request of an unsupported HTTP version."""

    code = 505
    reason = "HTTP Version Not Supported"


class _ChunkedBodyReceiver(ChunkedReceiver):  # type: ignore[misc]
    """A receiver of chunked bodies that refuses empty, overlong and LF-terminated lines."""

    error: Error | None

    def received(self, data: bytes) -> int:
        """Parse the next bytes; return the number of bytes that belong to this body."""
        consumed = 0
        while consumed < len(data) and not (self.completed or self.error):
            part = self._next_part(data[consumed:])
            if self.error is None:
                consumed += super().received(part)
        return consumed

    def _next_part(self, data: bytes) -> bytes:
        """Return the bytes up to the end of the chunk or line; set `error` if the line is invalid.

        Returns all of `data` within the trailer.
        """
        if self.chunk_remainder:
            return data[: self.chunk_remainder]
        if self.validate_chunk_end:
            return data[: 2 - len(self.chunk_end)]
        if self.all_chunks_received:
            return data
        part = data[: data.find(b"\n") + 1] or data
        line = self.control_line + part
        is_valid = (
            line.endswith(b"\r\n") and line != b"\r\n" if line.endswith(b"\n") else len(line) <= MAX_CHUNK_LINE_BYTES
        )
        if not is_valid:
            self.error = BadRequest("Invalid chunk size")
        return part


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """A parser that refuses requests that crash waitress 3.0.2 or allow request smuggling.

    Waitress crashes on a Content-Length of 5000 digits and on an invalid host in the URL. Waitress accepts
    Content-Length together with Transfer-Encoding, ignores Transfer-Encoding outside HTTP/1.1, and accepts an empty one
    and repeated `chunked`. Unlike a proxy, it may then take a body for the next request (RFC 9112, 6.1 and 11.2).
    Versions other than HTTP/1.0 and 1.1 are refused with 505.
    """

    adj: Any
    body_limit: int | None = None
    """Maximum size of the body in bytes, if the path has its own limit; otherwise None."""
    body_bytes_received: int
    body_rcv: Any
    chunked: bool
    completed: bool
    content_length: int
    error: Error | None
    path: str

    def received(self, data: bytes) -> int:
        """Parse the next bytes; return the number of bytes that belong to this request."""
        consumed: int = super().received(data)
        if self.headers_finished and self.version not in SUPPORTED_VERSIONS and not self.error:
            self.error, self.completed = VersionNotSupportedError("This server speaks HTTP/1.1 and HTTP/1.0"), True
        if self.completed:  # 100 Continue would ask the client for a body, but there is none or it is refused
            self.expect_continue = False
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the request line and headers; set `body_limit`.

        Raises ParsingError, or TransferEncodingNotImplemented.
        """
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError(str(error)[:80]) from error
        self.body_limit = getattr(self.adj, "body_limits", {}).get(self.path)
        if self.body_limit:
            self.adj = copy(self.adj)
            self.adj.max_request_body_size = self.body_limit + BODY_ALLOWANCE
        if b"transfer-encoding" in header_plus.lower():
            self._check_coding(header_plus)
        if self.chunked:
            self.body_rcv = _ChunkedBodyReceiver(self.body_rcv.buf)

    def _check_coding(self, header_block: bytes) -> None:
        fields = [line.partition(b":") for line in get_header_lines(header_block)]
        codings = [value.strip(b" \t").lower() for name, _, value in fields if name.lower() == b"transfer-encoding"]
        if not codings:
            return
        if self.version != "1.1":
            raise ParsingError("Transfer-Encoding is of HTTP/1.1")
        if codings != [b"chunked"]:
            raise ParsingError("Transfer-Encoding must be chunked, once")
        if "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")

    def refuse_timed_out(self) -> None:
        """Refuse an incomplete request with 408, because it was not received within RECEIVE_S."""
        if not self.headers_finished:
            self.parse_header(b"GET / HTTP/1.0\r\n")  # sets the attributes that a response needs, as waitress does
        self._refuse(RequestTimeoutError("The request did not arrive in time"))

    def refuse_incomplete(self) -> None:
        """Refuse an incomplete request with 400, because the client has ended the body early."""
        self._refuse(BadRequest("The body is not complete"))

    def _refuse(self, error: Error) -> None:
        self.error, self.completed = error, True
        if self.content_length and not self.chunked:
            error.params = {"received": self.body_bytes_received, "length": self.content_length}
