"""`./run fuzz --minutes N`: send malformed requests and print a tally.

After each malformed request the service must answer a normal request and have logged no defect. The memory of the
service must not grow.
"""

import argparse
import json
import random
import re
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.builders import ADDRESS
from tests.chaos.load import Client
from tests.chaos.postgres import Postgres
from tests.chaos.processes import HOST
from tests.chaos.service import Service, migrate

ANSWER_S, SILENCE_S = 5.0, 0.25
"""Timeout of a response, and the silence after which a response counts as complete, in seconds."""
MAX_HELD = 40
"""Number of connections with an incomplete request that stay open during the run."""
WARM_UP = 0.3
"""Memory must not grow any more after this share of the rounds."""
MAX_GROWTH_KIB = 24 * 1024
NOT_SUPPORTED = {501, 505}
"""The only correct 5xx: for an unknown transfer coding (RFC 9112, 6.1) or HTTP version."""
END = b"\r\n\r\n"
LINE = b"POST " + ADDRESS.encode() + b" HTTP/1.1"
TYPE = b"Content-Type: application/json"
BODY = b'{"name": "Fuzz", "username": "fuzz", "email": "fuzz@mail.example.org"}'
STATUS = re.compile(rb"^HTTP/1\.[01] (\d{3})", re.MULTILINE)
ODD_BYTES = [
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b":",
    b",",
    b";",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xd0\xb0",
    b"%00",
    b"../",
]

Rng = random.Random
Pieces = list[bytes]
"""The bytes of a request, in pieces that are sent one by one."""


def build_head(*headers: bytes, line: bytes = LINE, host: bytes = b"Host: 127.0.0.1") -> bytes:
    """Return the head of a request, which may be invalid."""
    return b"\r\n".join([line, host, *headers]) + END


def length_header(number: int) -> bytes:
    """Return a Content-Length header."""
    return b"Content-Length: %d" % number


def valid_request() -> bytes:
    """Return a well-formed request whose idempotency key is refused, so it creates no user."""
    return build_head(TYPE, length_header(len(BODY)), b"Idempotency-Key: short") + BODY


# --- Kinds of requests ----------------------------------------------------------------------------------------


def length_and_chunks(rng: Rng) -> Pieces:
    """Return a request with both Transfer-Encoding and Content-Length.

    If a proxy and the server obey different headers, the body smuggles a second request.
    """
    codings = [
        b"chunked",
        b"CHUNKED",
        b" chunked",
        b"\tchunked",
        b"chunked, identity",
        b"xchunked",
        b'"chunked"',
        b"gzip",
    ]
    both = [b"Transfer-Encoding:" + rng.choice([b" ", b"", b"\x0b"]) + rng.choice(codings)]
    both.append(length_header(rng.choice([0, 4, 5, 60, 2**40])))
    rng.shuffle(both)
    return [build_head(TYPE, *both) + b"0" + END + b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1" + END]


def many_lengths(rng: Rng) -> Pieces:
    """Return a request with several or invalid Content-Length headers."""
    values = [
        b"0",
        b"5",
        b"70",
        b"5, 5",
        b"+5",
        b"-1",
        b"0x10",
        b"5 ",
        b"5 5",
        b"",
        b"1e3",
        b"9" * 5000,
        "٣".encode(),
        b"5\0",
    ]
    return [build_head(TYPE, *(b"Content-Length: " + rng.choice(values) for _ in range(rng.randint(1, 3)))) + BODY]


def bad_chunks(rng: Rng) -> Pieces:
    """Return a request in chunks with invalid sizes, ends or trailers."""
    sizes = [
        b"5",
        b"0",
        b"-5",
        b"0x5",
        b"g",
        b"",
        b" 5",
        b"5;x=" + b"y" * 9000,
        b"f" * 30,
        b"5\n",
        b"\xff",
        b"00000000005",
    ]
    ends = [b"\r\n", b"\n", b"\r", b"", b"X\r\n"]
    chunks = [rng.choice(sizes) + rng.choice(ends) + b"hello" + rng.choice(ends) for _ in range(rng.randint(1, 4))]
    trailer = rng.choice([b"0" + END, b"0\r\nTrailer: x" + END, b"0\r\n" + b"x: y\r\n" * 999 + b"\r\n", b""])
    return [build_head(TYPE, b"Transfer-Encoding: chunked"), *chunks, trailer]


def bad_headers(rng: Rng) -> Pieces:
    """Return a request with line ends, NULs and spaces where a header may have none."""
    name = rng.choice(
        [b"X-Test", b"Host", b"Content-Type", b"Idempotency-Key", b"X-Request-Id", b"", b"Accept-Language"]
    )
    value = b"a" + rng.choice(ODD_BYTES) + b"Set-Cookie: session=evil" + rng.choice(ODD_BYTES)
    separator = rng.choice([b": ", b" : ", b":", b"", b"\t:"])
    folded = rng.choice([b"", b"\r\n folded", b"\n\tfolded"])
    return [build_head(name + separator + value + folded, TYPE, length_header(len(BODY))) + BODY]


def huge_heads(rng: Rng) -> Pieces:
    """Return a request with a very large head."""
    size = rng.choice([8_000, 17_000, 70_000, 300_000])
    return [
        rng.choice(
            [
                build_head(b"X-Big: " + b"b" * size),
                build_head(*(b"X-%d: y" % number for number in range(size // 8))),
                build_head(line=b"GET /" + b"a" * size + b" HTTP/1.1"),
                build_head(b"Cookie: " + b"session=x; " * (size // 11)),
                build_head(b"Accept-Language: " + b"ru;q=0.1," * (size // 9)),
            ]
        )
    ]


def drip(rng: Rng) -> Pieces:
    """Return a well-formed request, 40 bytes of it one by one."""
    request = valid_request()
    start = rng.randrange(len(request) - 40)
    return [request[:start], *(request[at : at + 1] for at in range(start, start + 40)), request[start + 40 :]]


def pipeline(rng: Rng) -> Pieces:
    """Return several pipelined requests, some of them malformed."""
    parts = [
        valid_request(),
        b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1" + END,
        b"GARBAGE" + END,
        build_head(line=b"GET /login/ HTTP/1.1"),
    ]
    return [b"".join(rng.choice(parts) for _ in range(rng.randint(2, 12)))]


def truncated(rng: Rng) -> Pieces:
    """Return the beginning of a request."""
    request = valid_request()
    return [request[: rng.randrange(1, len(request))]]


def start_lines(rng: Rng) -> Pieces:
    """Return a request with the start line of another protocol, or an invalid one."""
    lines = [
        *(
            b"PRI * HTTP/2.0",
            b"GET / HTTP/9.9",
            b"GET / HTTP/1.1 HTTP/1.1",
            b"GET  / HTTP/1.1",
            b"get / http/1.1",
            b"GET /",
        ),
        *(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\xff" * 50,
            b"",
            b" ",
            b"CONNECT evil.example:443 HTTP/1.1",
        ),
        *(b"GET http://evil.example/ HTTP/1.1", b"GET //evil.example/ HTTP/1.1", b"GET http://[::1 HTTP/1.1"),
        *(b"TRACE /useradd HTTP/1.1", b"GET /%ff%00%0d%0a HTTP/1.1", b"GET /\xd0\xb0 HTTP/1.1", b"OPTIONS * HTTP/1.1"),
        *(b"GET /results/?q=%00 HTTP/1.0", b"GET /static/../config.py HTTP/1.1", b"X" * 5000 + b" / HTTP/1.1"),
    ]
    return [build_head(line=rng.choice(lines))]


def bad_hosts(rng: Rng) -> Pieces:
    """Return a request with one or two Host headers, invalid or of another site."""
    names = [b"evil.example", b"", b"127.0.0.1:port", b"[::1", b"a b", b"127.0.0.1, evil.example", b"\xff", b"x" * 9000]
    host = b"\r\n".join(b"Host: " + rng.choice(names) for _ in range(rng.randint(1, 2)))
    return [build_head(TYPE, length_header(len(BODY)), host=host) + BODY]


def bad_bodies(rng: Rng) -> Pieces:
    """Return a request with a body that is hard to parse."""
    body = rng.choice(
        [
            b"[" * rng.choice([5_000, 16_000]),
            b'{"a":' * 3_000,
            b'{"username":' + b"9" * 5_000 + b"}",
            b'{"username":"\\ud800"}',
            b'{"name":"a\\u0000b"}',
            BODY.decode().encode("utf-16"),
            b"\xef\xbb\xbf" + BODY,
            b"\xff" * 100,
            b" " * rng.choice([16 * 1024, 16 * 1024 + 1, 256 * 1024 + 1, 300 * 1024]),
            json.dumps({str(n): n for n in range(1_000)}).encode(),
        ]
    )
    return [build_head(TYPE, length_header(len(body))), body]


def mutated(rng: Rng) -> Pieces:
    """Return a well-formed request with random changes."""
    request = bytearray(valid_request())
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(request))
        request[at : at + rng.choice([0, 1, 3])] = rng.choice([*ODD_BYTES, bytes([rng.randrange(256)])])
    return [bytes(request)]


KINDS: tuple[Callable[[Rng], Pieces], ...] = (
    length_and_chunks,
    many_lengths,
    bad_chunks,
    bad_headers,
    huge_heads,
    drip,
    pipeline,
    truncated,
    start_lines,
    bad_hosts,
    bad_bodies,
    mutated,
)


# --- Sending them ---------------------------------------------------------------------------------------------


@dataclass
class Fuzz:
    """A fuzzer that sends malformed requests to a service and counts the results."""

    service: Service
    rng: Rng
    responses: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    created: int = 0
    """Number of normal requests in between that have created a user."""
    defects: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    """Resident memory of all processes in KiB, after each round."""

    def __post_init__(self) -> None:
        self._held: list[socket.socket] = []
        self._client = Client(self.service)

    def run_round(self) -> None:
        """Send one request of each kind and check the service after each."""
        for kind in KINDS:
            pieces = kind(self.rng)
            self.kinds[kind.__name__.replace("_", " ")] += 1
            response = send(self.service.port, pieces)
            statuses = [int(status) for status in STATUS.findall(response)]
            self.responses.update([str(status) for status in statuses] or ["closed without a response"])
            if any(status >= 500 and status not in NOT_SUPPORTED for status in statuses):
                self.defects.append(f"{kind.__name__} was answered {statuses}: {pieces!r:.2000}")
            self._hold()
            self._check(f"{kind.__name__}: {pieces!r:.2000}")
        self.memory.append(memory_kib(self.service))

    def _hold(self) -> None:
        """Open one more connection with an incomplete request.

        Close the oldest one if there are too many.
        """
        with suppress(OSError):
            held = socket.create_connection((HOST, self.service.port), timeout=ANSWER_S)
            held.sendall(valid_request()[: self.rng.randrange(60)])
            self._held.append(held)
        while len(self._held) > MAX_HELD:
            self._held.pop(0).close()

    def _check(self, after: str) -> None:
        """Send a normal request and check its response and the log."""
        answer = self._client.create()
        self.created += answer.status == 201
        if answer.status != 201:
            self.defects.append(f"a normal request was answered {answer.status} {answer.code} after {after}")
        for line in self.service.log_lines():
            if line["level"] not in {"INFO", "WARNING"}:
                self.defects.append(f"{line} after {after}")
        self.service.mark()

    def close(self) -> None:
        """Close all connections."""
        for held in self._held:
            held.close()
        self._client.close()


def send(port: int, pieces: Pieces, silence_s: float = SILENCE_S) -> bytes:
    """Send pieces on a new connection; return what is received until it is closed or silent."""
    response = b""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=ANSWER_S) as connection:
        for piece in pieces:
            connection.sendall(piece)
        end = time.monotonic() + ANSWER_S
        while time.monotonic() < end and select.select([connection], [], [], silence_s)[0]:
            received = connection.recv(65536)
            if not received:
                break
            response += received
    return response


def memory_kib(service: Service) -> int:
    """Return the resident memory of all processes of the service, in KiB."""
    return sum(_resident_kib(pid) for pid in [service.pid, *service.workers()])


def _resident_kib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def format_tally(fuzz: Fuzz) -> str:
    """Format the results as a text table."""
    settled = fuzz.memory[int(len(fuzz.memory) * WARM_UP)]
    lines = [
        ("malformed requests", fuzz.kinds.total()),
        *((f"  {kind}", count) for kind, count in sorted(fuzz.kinds.items())),
        ("responses, several per pipeline", fuzz.responses.total()),
        *((f"  {status}", count) for status, count in sorted(fuzz.responses.items())),
        ("normal requests in between, answered 201", fuzz.created),
        ("defects", len(fuzz.defects)),
        ("memory after a third of the time", f"{settled // 1024} MiB"),
        ("memory at the end", f"{fuzz.memory[-1] // 1024} MiB"),
    ]
    return "\n".join(f"{name:<50}{value:>10}" for name, value in lines)


def run_rounds(fuzz: Fuzz, minutes: float) -> Iterator[None]:
    """Run rounds until the time is over or too many defects were found; yield after each."""
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end and len(fuzz.defects) < 20:
        fuzz.run_round()
        yield


def main() -> None:
    """Run the fuzzer, print the tally; exit with 1 if a defect was found or memory grew."""
    parser = argparse.ArgumentParser(prog="./run fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeat the requests of an earlier run")
    options = parser.parse_args()
    print(f"fuzz for {options.minutes:g} minutes, seed {options.seed}", flush=True)
    postgres = Postgres().start()
    migrate(postgres.url())
    service = Service(postgres.url(), WORKERS="2").start()
    service.mark()
    fuzz = Fuzz(service, random.Random(options.seed))  # noqa: S311 - must be reproducible
    try:
        for _ in run_rounds(fuzz, options.minutes):
            print(".", end="", flush=True)
        print("\n" + "\n".join([*fuzz.defects, format_tally(fuzz)]))
        grown = fuzz.memory[-1] - fuzz.memory[int(len(fuzz.memory) * WARM_UP)]
        if fuzz.defects or grown > MAX_GROWTH_KIB:
            sys.exit(f"{len(fuzz.defects)} defects, memory grew by {grown} KiB after the warm-up")
    finally:
        fuzz.close()
        service.close()
        postgres.close()


if __name__ == "__main__":
    main()
