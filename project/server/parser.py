"""Parser that refuses invalid requests which waitress 3.0.2 accepts or crashes on."""

from waitress.parser import HTTPRequestParser, ParsingError, get_header_lines
from waitress.utilities import Error

VERSIONS = {"1.0", "1.1"}


class RequestTimeoutError(Error):  # type: ignore[misc]  # waitress has no types
    """Response to a request that did not arrive in time."""

    code = 408
    reason = "Request Timeout"


class VersionNotSupportedError(Error):  # type: ignore[misc]
    """Response to a request of an unsupported HTTP version."""

    code = 505
    reason = "HTTP Version Not Supported"


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """Parser that responds 400 where waitress 3.0.2 crashes or allows request smuggling.

    Waitress crashes on a Content-Length of 5000 digits and on an invalid host. It accepts Content-Length together with
    Transfer-Encoding, ignores Transfer-Encoding outside HTTP/1.1, and accepts several or no codings in it. Then it may
    treat bytes that a proxy considers a body as the next request (RFC 9112, 6.1 and 11.2).
    """

    completed: bool
    error: Error | None

    def received(self, data: bytes) -> int:
        """Parse the next bytes; return the number of those that belong to this request."""
        consumed: int = super().received(data)
        if self.headers_finished and self.version not in VERSIONS and not self.error:
            self.error, self.completed = VersionNotSupportedError("This server speaks HTTP/1.1 and HTTP/1.0"), True
        if self.completed:  # without a body, or refused: 100 Continue would ask the client for a body
            self.expect_continue = False
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the request line and headers. Raises ParsingError."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError(str(error)[:80]) from error
        if b"transfer-encoding" in header_plus.lower():
            self._check_coding(header_plus)

    def _check_coding(self, head: bytes) -> None:
        fields = [line.partition(b":") for line in get_header_lines(head)]
        codings = [value.strip(b" \t").lower() for name, _, value in fields if name.lower() == b"transfer-encoding"]
        if not codings:
            return
        if self.version != "1.1":
            raise ParsingError("Transfer-Encoding is of HTTP/1.1")
        if codings != [b"chunked"]:
            raise ParsingError("Transfer-Encoding must be chunked, once")
        if "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")

    def refuse_late(self) -> None:
        """Mark an incomplete request as complete and refused with 408."""
        if not self.headers_finished:
            self.parse_header(b"GET / HTTP/1.0\r\n")  # sets the attributes that a response needs, as waitress does
        self.error, self.completed = RequestTimeoutError("The request did not arrive in time"), True
