"""Clients that repeat each request with its key until they know its outcome.

Another client reads the results page.
"""

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise

from tests.chaos.load import Answer, Client, new_body, new_key
from tests.chaos.service import Service

GIVE_UP_S = 120.0
AGAIN_S = (0.3, 1.5)
FINAL = range(200, 500)
"""Statuses that need no repeat; 429 does not occur, because rate limits are disabled."""


@dataclass(frozen=True)
class Received:
    """An answer, the instance that gave it, and the time it was received (time.monotonic())."""

    service: Service
    answer: Answer
    at: float


@dataclass
class Clients:
    """Clients that create users while the `with` block runs.

    They finish their current requests at its end.
    """

    services: Sequence[Service]
    number: int
    pause_s: float
    received: list[Received] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    """Seconds until each user was created, including repeats."""
    undecided: int = 0
    """Number of users whose outcome stayed unknown."""

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self.number)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _work(self) -> None:
        clients = [(service, Client(service)) for service in self.services]
        try:
            while not self._stopped.wait(self.pause_s):
                self._create(clients)
        except BaseException as error:  # raised by __exit__
            self._failures.append(error)
        finally:
            for _, client in clients:
                client.close()

    def _create(self, clients: Sequence[tuple[Service, Client]]) -> None:
        body, key, began = new_body(), new_key(), time.monotonic()
        while time.monotonic() < began + GIVE_UP_S:
            service, client = random.choice(clients)  # noqa: S311 - not security-relevant
            answer = client.post(body, key)
            self.received.append(Received(service, answer, time.monotonic()))
            if answer.status in FINAL:
                self.waits.append(time.monotonic() - began)
                return
            time.sleep(random.uniform(*AGAIN_S))  # noqa: S311 - spreads the repeats
        self.undecided += 1


class Reader:
    """A reader that continuously requests the results page of each instance."""

    def __init__(self, services: Sequence[Service], pause_s: float) -> None:
        self._clients = [Client(service) for service in services]
        self._pause_s = pause_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.responses: Counter[str] = Counter()
        self.slowest_s = 0.0

    def __enter__(self) -> "Reader":
        user = self._clients[0].create().json
        assert all(client.log_in(user["login"], user["password"]) for client in self._clients)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        for client in cycle(self._clients):
            if self._stopped.wait(self._pause_s):
                break
            began = time.monotonic()
            try:
                status, _ = client.get("/results/")
            except (OSError, http.client.HTTPException):
                client.close()
                self.responses["no response (process killed)"] += 1
            else:
                self.responses[str(status)] += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)


def longest_gap(received: Sequence[Received], since: float, until: float) -> float:
    """Return the longest time without a created user between two times, in seconds."""
    times = [
        since,
        *sorted(each.at for each in received if each.answer.status == 201 and since < each.at < until),
        until,
    ]
    return max(later - earlier for earlier, later in pairwise(times))
