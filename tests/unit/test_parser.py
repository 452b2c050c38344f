"""Chunked bodies, however the network splits them."""

import pytest
from waitress.adjustments import Adjustments

from project.server.parser import BODY_ALLOWANCE, MAX_CHUNK_LINE_BYTES, Parser

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = b'3\r\n{"a\r\n0B;x="y"\r\n": "chunks"\r\n1\r\n}\r\n0\r\nX-Trailer: y\r\n\r\n'
PARTS = [1, 2, 3, 7, 1000]


def parse(data: bytes, part: int) -> tuple[Parser, int]:
    """Parse data in parts of a length; return the parser and the number of bytes that it took."""
    parser, consumed = Parser(Adjustments()), 0
    while consumed < len(data) and not parser.completed:
        consumed += parser.received(data[consumed : consumed + part])
    return parser, consumed


@pytest.mark.parametrize("part", PARTS)
def test_a_chunked_body_is_read_up_to_its_end(part: int) -> None:
    parser, consumed = parse(HEAD + BODY + b"GET / HTTP/1.1\r\n\r\n", part)

    assert parser.completed
    assert parser.error is None
    assert parser.get_body_stream().read() == b'{"a": "chunks"}'
    assert consumed == len(HEAD + BODY)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    "body",
    [
        b"\r\n2\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n\r\n0\r\n\r\n",
        b"2\r\n{}\r\n\r\n",
        b"2\n\r\n{}\r\n0\r\n\r\n",
        b"2\n{}\n0\n\n",
        b"\n2\r\n{}\r\n0\r\n\r\n",
        b"2;a\nb\r\n{}\r\n0\r\n\r\n",
        b"2 \r\n{}\r\n0\r\n\r\n",
        b" 2\r\n{}\r\n0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b"+2\r\n{}\r\n0\r\n\r\n",
        b"-2\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}xx0\r\n\r\n",
        b"2\r\n{}\n0\r\n\r\n",
        b"2\r\n{}0\r\n\r\n",
        b"2;" + b"a" * MAX_CHUNK_LINE_BYTES,
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_chunk_that_two_servers_could_read_differently_is_refused(body: bytes, part: int) -> None:
    parser, _ = parse(HEAD + body, part)

    assert parser.completed
    assert parser.error is not None
    assert parser.error.code == 400


@pytest.mark.parametrize(
    ("path", "length", "is_refused"),
    [
        ("/large", 500, False),
        ("/large?x=1", 500, False),
        ("/large", 999 + BODY_ALLOWANCE, False),
        ("/large", 1000 + BODY_ALLOWANCE, True),
        ("/other", 500, True),
    ],
)
def test_an_address_can_have_a_limit_of_its_own_for_the_body(path: str, length: int, is_refused: bool) -> None:
    settings = Adjustments(max_request_body_size=100)
    settings.body_limits = {"/large": 1000}
    parser = Parser(settings)

    parser.received(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())

    assert (parser.error is not None) is is_refused
    assert parser.body_limit == (1000 if "large" in path else None)
    assert settings.max_request_body_size == 100
