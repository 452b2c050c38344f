"""A short and always equal piece of `./run fuzz`: whatever comes over the wire, the service stands it (S66)."""

import random
from collections.abc import Iterator

import pytest

from tests.chaos.fuzz import ANSWER_S, BODY, KINDS, STATUS, TYPE, Fuzz, head, length, memory_kib, send
from tests.chaos.service import Service

SEED = 66
INNER = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
"""What a proxy would take for a part of the body, and a server that disagrees for the next request."""


@pytest.fixture
def fuzz(service: Service) -> Iterator[Fuzz]:
    """Odd requests that are the same in each run."""
    fuzz = Fuzz(service, random.Random(SEED))  # noqa: S311 - a run that can be repeated
    yield fuzz
    fuzz.close()


def statuses(service: Service, *pieces: bytes) -> list[int]:
    """Send pieces; return the statuses of all answers."""
    return [int(status) for status in STATUS.findall(send(service.port, list(pieces)))]


def test_every_kind_of_odd_request_leaves_the_service_as_it_was(fuzz: Fuzz) -> None:
    fuzz.round()
    before = fuzz.memory[-1]

    fuzz.round()

    assert fuzz.defects == []
    assert set(fuzz.kinds.values()) == {2}
    assert len(fuzz.kinds) == len(KINDS)
    assert memory_kib(fuzz.service) < before + 64 * 1024


@pytest.mark.parametrize(
    "headers",
    [
        (b"Transfer-Encoding: chunked", length(4)),
        (length(4), b"Transfer-Encoding: chunked"),
        (length(0), b"Transfer-Encoding: chunked"),
        (length(5), length(len(BODY))),
        (b"Content-Length: 5, 5",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        (b"Transfer-Encoding : chunked", length(4)),
        (b"X-Test: a\nTransfer-Encoding: chunked", length(4)),
    ],
    ids=lambda headers: b" | ".join(headers).decode(),
)
def test_no_request_can_be_smuggled_in_by_two_ways_to_tell_a_length(
    service: Service, headers: tuple[bytes, ...]
) -> None:
    found = statuses(service, head(TYPE, *headers) + b"0\r\n\r\n" + INNER)

    assert len(found) <= 1
    assert set(found) <= {400, 411, 501}


def test_a_length_that_is_honest_keeps_the_connection(service: Service) -> None:
    last = head(b"Connection: close", line=b"GET /livez HTTP/1.1")

    heard = send(service.port, [head(length(0), line=b"GET /livez HTTP/1.1") + last], ANSWER_S)

    assert STATUS.findall(heard) == [b"200", b"200"]


@pytest.mark.parametrize("size", [17_000, 300_000])
def test_a_head_that_is_too_large_is_refused(service: Service, size: int) -> None:
    found = statuses(service, head(b"X-Big: " + b"x" * size))

    assert found in ([431], [400], []), "closed at the worst, before all of it was read"


def test_a_header_cannot_be_put_into_an_answer(service: Service) -> None:
    evil = head(TYPE, b"X-Request-Id: a\rSet-Cookie: session=evil", b"Connection: close", length(2))

    heard = send(service.port, [evil + b"{}"], ANSWER_S)

    assert b"\r\nSet-Cookie" not in heard
    assert b"\nSet-Cookie" not in heard
    assert STATUS.findall(heard) == [b"400"]
