"""Good clients: they repeat with the same key, at whichever instance, until they know what became of their user.

And somebody who reads meanwhile.
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
"""Statuses after which there is nothing to repeat: with new data and no limits 429 is not among the answers."""


@dataclass(frozen=True)
class Heard:
    """An answer, whose it is, and when it came (time.monotonic())."""

    service: Service
    answer: Answer
    at: float


@dataclass
class Clients:
    """They work while the `with` block runs, and finish what they began."""

    services: Sequence[Service]
    number: int
    pause_s: float
    heard: list[Heard] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    """Seconds until each user was there, repeats and all."""
    undecided: int = 0
    """Users of whom nobody knew anything in the end."""

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
        except BaseException as error:  # raised again where it is seen
            self._failures.append(error)
        finally:
            for _, client in clients:
                client.close()

    def _create(self, clients: Sequence[tuple[Service, Client]]) -> None:
        body, key, began = new_body(), new_key(), time.monotonic()
        while time.monotonic() < began + GIVE_UP_S:
            service, client = random.choice(clients)  # noqa: S311 - any will do
            answer = client.post(body, key)
            self.heard.append(Heard(service, answer, time.monotonic()))
            if answer.status in FINAL:
                self.waits.append(time.monotonic() - began)
                return
            time.sleep(random.uniform(*AGAIN_S))  # noqa: S311 - so that not all return at once
        self.undecided += 1


class Reader:
    """Looks at the results page of each instance all the time."""

    def __init__(self, services: Sequence[Service], pause_s: float) -> None:
        self._clients = [Client(service) for service in services]
        self._pause_s = pause_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.told: Counter[str] = Counter()
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
                self.told["no answer (process killed)"] += 1
            else:
                self.told[str(status)] += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)


def longest_gap(heard: Sequence[Heard], since: float, until: float) -> float:
    """Return the seconds between two moments in which nobody got a user."""
    moments = [since, *sorted(one.at for one in heard if one.answer.status == 201 and since < one.at < until), until]
    return max(later - earlier for earlier, later in pairwise(moments))
