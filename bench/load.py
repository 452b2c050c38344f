"""A load generator that costs little: prepared requests over sockets that stay open, in a process of its own."""

import json
import selectors
import socket
import statistics
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Load:
    """What came of it."""

    rate: float
    """Answers with the status asked for, a second."""
    p50_ms: float
    p99_ms: float
    others: int
    """Answers with another status."""


def measure(port: int, path: str, clients: int, seconds: float, *, headers: str = "", expected: int = 201) -> Load:
    """Let `clients` connections ask as fast as they are answered; POST a new user each, or GET when headers say so."""
    command = [sys.executable, "-m", "bench.load", str(port), path, str(clients), str(seconds), headers, str(expected)]
    said = subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True, text=True)
    return Load(**json.loads(said.stdout))


class _Connection:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self.buffer = b""

    def send(self, request: bytes) -> None:
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> int | None:
        """Return the status as soon as the answer is whole."""
        self.buffer += self.socket.recv(65536)
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return None
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return None
        self.buffer = body[length:]
        return int(head[9:12])


def _request(path: str, headers: str) -> bytes:
    if headers:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n".encode()
    name = uuid.uuid4().hex[:16]
    phone = f"+7912{uuid.uuid4().int % 10**7:07}"
    body = json.dumps(
        {"name": "Анна Соколова", "username": f"u{name}", "email": f"{name}@example.org", "birth_date": "1990-12-31"}
        | ({"phone": phone} if path.endswith("/both") else {})
    ).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def main() -> None:
    """Ask, and print what came of it as JSON."""
    port, path, clients, seconds, headers, expected = sys.argv[1:]
    selector = selectors.DefaultSelector()
    for _ in range(int(clients)):
        connection = _Connection(int(port))
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(_request(path, headers))
    times, others, end = [], 0, time.perf_counter() + float(seconds)
    while time.perf_counter() < end:
        for key, _events in selector.select(1):
            status = key.data.receive()
            if status is None:
                continue
            if status == int(expected):
                times.append(time.perf_counter() - key.data.sent_at)
            else:
                others += 1
            key.data.send(_request(path, headers))
    spread = statistics.quantiles(times, n=100) if len(times) > 1 else [0.0] * 99
    found = Load(len(times) / float(seconds), spread[49] * 1000, spread[98] * 1000, others)
    json.dump(found.__dict__, sys.stdout)


if __name__ == "__main__":
    main()
