"""A load generator that uses little CPU: it sends one prepared request over and over.

Connections are persistent. The generator runs in a process of its own.
"""

import gc
import json
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

HOST = "127.0.0.1"
NUMBER = b"NNNNNNN"
"""Placeholder for seven digits that differ in each request. They make its user new and its phone number valid."""
WARM_UP_SHARE = 0.2
"""Share of the time that is not measured, for opening connections to PostgreSQL and filling caches."""


@dataclass(frozen=True, slots=True)
class Load:
    """The measured result of a load."""

    rate: float
    """Number of responses with the expected status per second, after the warm-up."""
    p50_ms: float
    p99_ms: float
    """Median and 99th percentile of the times of these responses."""
    unexpected: int
    """Number of responses with another status."""
    requests: int
    """Number of all responses, including the warm-up."""
    elapsed_s: float
    """Seconds of the load, including the warm-up."""
    cpu_s: float
    """CPU seconds of the load generator."""


def useradd_request(path: str = "/api/v1/useradd/") -> bytes:
    """Return a request that creates a user with all fields; NUMBER makes the user new."""
    person = {
        "name": "Анна Соколова",
        "username": "anna.NNNNNNN",
        "phone": "8 (912) NNNNNNN",
        "email": "anna.NNNNNNN@example.org",
        "birth_date": "1990-12-31",
    }
    return build_request("POST", path, json.dumps(person, ensure_ascii=False).encode(), "application/json")


def build_request(method: str, path: str, body: bytes = b"", content_type: str = "", cookie: str = "") -> bytes:
    """Return the bytes of an HTTP/1.1 request."""
    head = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", "User-Agent: bench", "Accept-Language: ru"]
    head += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"] if body else []
    head += [f"Cookie: {cookie}"] if cookie else []
    return "\r\n".join([*head, "", ""]).encode() + body


def measure(port: int, template: bytes, *, clients: int, seconds: float, first: int, expected: int) -> Load:
    """Run a load in another process and return its result; clients send without pauses.

    Requests are numbered from `first`. The load lasts `seconds`, or longer until there is a response per client on
    average. Raises CalledProcessError if the process fails.
    """
    options = [str(value) for value in (port, clients, seconds, first, expected)]
    command = [sys.executable, "-m", "bench.load", *options]
    completed = subprocess.run(command, cwd=Path(__file__).parents[1], check=True, input=template, capture_output=True)
    return Load(**json.loads(completed.stdout))


class _Client:
    """A connection with one outstanding request."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self._received = b""

    def close(self) -> None:
        self.socket.close()

    def send(self, request: bytes) -> None:
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> int | None:
        """Receive data; return the status when the response is complete, else None."""
        received = self.socket.recv(65536)
        if not received:
            raise ConnectionError("the server closed a connection")
        self._received += received
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        length = self._received[:end].lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(self._received) < end + 4 + int(length):
            return None
        status = int(self._received[9:12])
        self._received = b""
        return status


@dataclass(slots=True)
class _Tally:
    """The responses to a load."""

    times: list[float] = field(default_factory=list)
    """Times of responses with the expected status after the warm-up, in seconds."""
    responses: int = 0
    unexpected: int = 0


def run_load(port: int, template: bytes, *, clients: int, seconds: float, first: int, expected: int) -> Load:
    """Run a load in this process, see measure()."""
    with ExitStack() as stack:
        all_clients = [stack.enter_context(closing(_Client(port))) for _ in range(clients)]
        selector = stack.enter_context(selectors.DefaultSelector())
        for client in all_clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        began, used = time.perf_counter(), time.process_time()
        tally = _exchange(selector, all_clients, _numbered(template, first), seconds, expected)
        elapsed, used = time.perf_counter() - began, time.process_time() - used
    spread = statistics.quantiles(tally.times, n=100) if len(tally.times) > 1 else [0.0] * 99
    return Load(
        rate=len(tally.times) / (elapsed - WARM_UP_SHARE * seconds),
        p50_ms=spread[49] * 1000,
        p99_ms=spread[98] * 1000,
        unexpected=tally.unexpected,
        requests=tally.responses,
        elapsed_s=elapsed,
        cpu_s=used,
    )


def _exchange(
    selector: selectors.BaseSelector,
    all_clients: list[_Client],
    requests: Iterator[bytes],
    seconds: float,
    expected: int,
) -> _Tally:
    """Send requests on all connections until the end of the load; count the responses."""
    tally, now = _Tally(), time.perf_counter()
    counted_from, end = now + WARM_UP_SHARE * seconds, now + seconds
    for client in all_clients:
        client.send(next(requests))
    while now < end or tally.responses < len(all_clients):
        ready = selector.select(1)
        now = time.perf_counter()
        for key, _events in ready:
            client = key.data
            status = client.receive()
            if status is None:
                continue
            tally.responses += 1
            if status != expected:
                tally.unexpected += 1
            elif now >= counted_from:
                tally.times.append(time.perf_counter() - client.sent_at)
            client.send(next(requests))
    return tally


def _numbered(template: bytes, first: int) -> Iterator[bytes]:
    """Yield the request with consecutive numbers in place of NUMBER."""
    parts = template.split(NUMBER)
    for number in count(first):
        yield (b"%07d" % (number % 10**7)).join(parts)


def main() -> None:
    """Run a load with the request from stdin and print its result as JSON."""
    port, clients, seconds, first, expected = sys.argv[1:]
    gc.disable()
    load = run_load(
        int(port),
        sys.stdin.buffer.read(),
        clients=int(clients),
        seconds=float(seconds),
        first=int(first),
        expected=int(expected),
    )
    json.dump(asdict(load), sys.stdout)


if __name__ == "__main__":
    main()
