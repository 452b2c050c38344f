"""A load generator that costs little: one prepared request over sockets that stay open, in a process of its own."""

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
"""Seven digits of a request that differ each time: they keep its length, and are a Russian phone of one operator."""
WARM_UP = 0.2
"""Share of the time whose answers do not count: connections to PostgreSQL are opened, caches filled."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it."""

    rate: float
    """Answers with the status asked for, a second."""
    p50_ms: float
    p99_ms: float
    others: int
    """Answers with another status."""
    requests: int
    """All that was answered, with the warm-up."""
    elapsed_s: float
    cpu_s: float
    """Seconds of a core that the load generator used."""


def useradd(path: str = "/api/v1/useradd/") -> bytes:
    """Return a request to create a user with all fields, as people write them; its number makes it unique."""
    person = {
        "name": "Анна Соколова",
        "username": "anna.NNNNNNN",
        "phone": "8 (912) NNNNNNN",
        "email": "anna.NNNNNNN@example.org",
        "birth_date": "1990-12-31",
    }
    return request("POST", path, json.dumps(person, ensure_ascii=False).encode(), "application/json")


def request(method: str, path: str, body: bytes = b"", content_type: str = "", cookie: str = "") -> bytes:
    """Return a request as it goes over the wire."""
    head = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", "User-Agent: bench", "Accept-Language: ru"]
    head += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"] if body else []
    head += [f"Cookie: {cookie}"] if cookie else []
    return "\r\n".join([*head, "", ""]).encode() + body


def measure(port: int, asked: bytes, *, clients: int, seconds: float, first: int, expected: int) -> Load:
    """Let `clients` connections ask, each again as soon as it is answered; requests are numbered from `first`.

    It goes on for `seconds`, and longer if not each of them has been answered once by then.
    """
    options = [str(value) for value in (port, clients, seconds, first, expected)]
    command = [sys.executable, "-m", "bench.load", *options]
    said = subprocess.run(command, cwd=Path(__file__).parents[1], check=True, input=asked, capture_output=True)
    return Load(**json.loads(said.stdout))


class _Client:
    """One connection, which waits for one answer at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self._received = b""

    def close(self) -> None:
        self.socket.close()

    def send(self, asked: bytes) -> None:
        self.sent_at = time.perf_counter()
        self.socket.sendall(asked)

    def receive(self) -> int | None:
        """Return the status as soon as the answer is whole."""
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
    times: list[float] = field(default_factory=list)
    """Seconds of each answer that counts."""
    answers: int = 0
    others: int = 0


def ask(port: int, asked: bytes, *, clients: int, seconds: float, first: int, expected: int) -> Load:
    """Do in this process what measure() lets another one do."""
    with ExitStack() as stack:
        everybody = [stack.enter_context(closing(_Client(port))) for _ in range(clients)]
        selector = stack.enter_context(selectors.DefaultSelector())
        for client in everybody:
            selector.register(client.socket, selectors.EVENT_READ, client)
        began, used = time.perf_counter(), time.process_time()
        tally = _exchange(selector, everybody, _numbered(asked, first), seconds, expected)
        elapsed, used = time.perf_counter() - began, time.process_time() - used
    spread = statistics.quantiles(tally.times, n=100) if len(tally.times) > 1 else [0.0] * 99
    return Load(
        rate=len(tally.times) / (elapsed - WARM_UP * seconds),
        p50_ms=spread[49] * 1000,
        p99_ms=spread[98] * 1000,
        others=tally.others,
        requests=tally.answers,
        elapsed_s=elapsed,
        cpu_s=used,
    )


def _exchange(
    selector: selectors.BaseSelector,
    everybody: list[_Client],
    requests: Iterator[bytes],
    seconds: float,
    expected: int,
) -> _Tally:
    tally, now = _Tally(), time.perf_counter()
    counted_from, end = now + WARM_UP * seconds, now + seconds
    for client in everybody:
        client.send(next(requests))
    while now < end or tally.answers < len(everybody):
        ready = selector.select(1)
        now = time.perf_counter()
        for key, _events in ready:
            client = key.data
            status = client.receive()
            if status is None:
                continue
            tally.answers += 1
            if status != expected:
                tally.others += 1
            elif now >= counted_from:
                tally.times.append(time.perf_counter() - client.sent_at)
            client.send(next(requests))
    return tally


def _numbered(asked: bytes, first: int) -> Iterator[bytes]:
    parts = asked.split(NUMBER)
    for number in count(first):
        yield (b"%07d" % (number % 10**7)).join(parts)


def main() -> None:
    """Ask, and print what came of it as JSON."""
    port, clients, seconds, first, expected = sys.argv[1:]
    gc.disable()
    load = ask(
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
