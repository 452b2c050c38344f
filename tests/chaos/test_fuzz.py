"""A short, reproducible part of `./run fuzz` (S66).

The service survives any bytes that a client sends.
"""

import random
from collections.abc import Iterator

import pytest

from tests.chaos.fuzz import ANSWER_S, BODY, KINDS, STATUS, TYPE, Fuzz, build_head, length_header, memory_kib, send
from tests.chaos.service import Service

SEED = 66
INNER = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
"""Part of the body for a proxy, but the next request for a server that disagrees about the length."""


@pytest.fixture
def fuzz(service: Service) -> Iterator[Fuzz]:
    """A fuzzer that sends the same requests in each run."""
    fuzz = Fuzz(service, random.Random(SEED))  # noqa: S311 - must be reproducible
    yield fuzz
    fuzz.close()


def statuses(service: Service, *pieces: bytes) -> list[int]:
    """Send pieces; return the statuses of all responses."""
    return [int(status) for status in STATUS.findall(send(service.port, list(pieces)))]


def test_malformed_requests_of_every_kind_cause_no_defect_and_no_memory_growth(fuzz: Fuzz) -> None:
    fuzz.run_round()
    before = fuzz.memory[-1]

    fuzz.run_round()

    assert fuzz.defects == []
    assert set(fuzz.kinds.values()) == {2}
    assert len(fuzz.kinds) == len(KINDS)
    assert memory_kib(fuzz.service) < before + 64 * 1024


@pytest.mark.parametrize(
    "headers",
    [
        (b"Transfer-Encoding: chunked", length_header(4)),
        (length_header(4), b"Transfer-Encoding: chunked"),
        (length_header(0), b"Transfer-Encoding: chunked"),
        (length_header(5), length_header(len(BODY))),
        (b"Content-Length: 5, 5",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        (b"Transfer-Encoding : chunked", length_header(4)),
        (b"X-Test: a\nTransfer-Encoding: chunked", length_header(4)),
    ],
    ids=lambda headers: b" | ".join(headers).decode(),
)
def test_conflicting_length_headers_cannot_smuggle_a_request(service: Service, headers: tuple[bytes, ...]) -> None:
    found = statuses(service, build_head(TYPE, *headers) + b"0\r\n\r\n" + INNER)

    assert len(found) <= 1
    assert set(found) <= {400, 411, 501}


def test_a_correct_content_length_keeps_the_connection_open(service: Service) -> None:
    last = build_head(b"Connection: close", line=b"GET /livez HTTP/1.1")

    response = send(service.port, [build_head(length_header(0), line=b"GET /livez HTTP/1.1") + last], ANSWER_S)

    assert STATUS.findall(response) == [b"200", b"200"]


@pytest.mark.parametrize("size", [17_000, 300_000])
def test_a_too_large_request_head_is_refused(service: Service, size: int) -> None:
    found = statuses(service, build_head(b"X-Big: " + b"x" * size))

    assert found in ([431], [400], []), "closed at worst, before all of it was read"


def test_a_request_header_cannot_inject_a_response_header(service: Service) -> None:
    evil = build_head(TYPE, b"X-Request-Id: a\rSet-Cookie: session=evil", b"Connection: close", length_header(2))

    response = send(service.port, [evil + b"{}"], ANSWER_S)

    assert b"\r\nSet-Cookie" not in response
    assert b"\nSet-Cookie" not in response
    assert STATUS.findall(response) == [b"400"]
