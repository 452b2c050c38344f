"""Clients of the service: they create users, never the same twice, and remember every answer."""

import http.client
import itertools
import json
import random
import select
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode

from tests.builders import ADDRESS, csrf_token
from tests.chaos.processes import eventually

KEY_MARK = "chaoskey"
"""Begins every idempotency key that is sent: one search finds them all where none may be."""
_RUN = uuid.uuid4().hex[:6]
_numbers = itertools.count(1)
_first_phone = random.randrange(10**7)  # noqa: S311 - guards nothing


@dataclass(frozen=True)
class Answer:
    """What came of one request. `status` is None when no answer came, and nothing is known then."""

    status: int | None
    json: Mapping[str, Any]
    seconds: float
    headers: Mapping[str, str]
    """By names in capitals: `Retry-After`."""
    key: str
    sent: Mapping[str, str]

    @property
    def attempt_id(self) -> str | None:
        """Number of the attempt, as told."""
        return self.json.get("attempt_id")

    @property
    def code(self) -> str:
        """Why: `created`, `replayed`, the code of a problem, `broken` when no answer came."""
        if self.status is None:
            return "broken"
        if self.status == 201:
            return "replayed" if self.is_replay else "created"
        return str(self.json.get("code", "unknown"))

    @property
    def is_replay(self) -> bool:
        """Tell whether an earlier request created this user."""
        return self.headers.get("Idempotent-Replayed") == "true"


def new_body(username: str | None = None) -> dict[str, str]:
    """Return a body that nobody has sent yet: a new user, phone and e-mail of his own."""
    number = next(_numbers)
    username = username or f"u{_RUN}n{number}"
    phone = f"+7999{(_first_phone + number) % 10**7:07}"
    return {"name": f"Chaos {number}", "username": username, "phone": phone, "email": f"{username}@mail.example.org"}


def new_key() -> str:
    """Return an idempotency key that can be told from everything else."""
    return f"{KEY_MARK}-{uuid.uuid4().hex}"


class Listening(Protocol):
    """Whatever takes requests: the service, or something in front of it."""

    @property
    def host(self) -> str:
        """Its address."""
        ...

    @property
    def port(self) -> int:
        """Where it listens."""
        ...


class Client:
    """One client on one connection, which it opens again after it broke."""

    def __init__(self, service: Listening) -> None:
        self._address = service.host, service.port
        self._connection: http.client.HTTPConnection | None = None
        self._cookie = ""

    def create(self, username: str | None = None, key: str | None = None, timeout: float = 10) -> Answer:
        """Create a new user. An empty `key` sends none."""
        return self.post(new_body(username), new_key() if key is None else key, timeout)

    def repeat(self, answer: Answer, timeout: float = 10) -> Answer:
        """Send the same body with the same key again."""
        return self.post(answer.sent, answer.key, timeout)

    def post(self, body: Mapping[str, str], key: str, timeout: float = 10) -> Answer:
        """Send a body and return the answer, whatever it is."""
        headers = {"Content-Type": "application/json", "Accept-Language": "en"}
        if key:
            headers["Idempotency-Key"] = key
        started = time.monotonic()
        try:
            response, text = self._send("POST", ADDRESS, json.dumps(body), headers, timeout)
        except (OSError, http.client.HTTPException):
            self.close()
            return Answer(None, {}, time.monotonic() - started, {}, key, body)
        seconds = time.monotonic() - started
        told = _object(text)
        names = {name.title(): value for name, value in response.getheaders()}  # some proxies write them small
        return Answer(response.status, told, seconds, names, key or told.get("idempotency_key", ""), body)

    def log_in(self, login: str, password: str) -> bool:
        """Fill in and send the login form; tell whether it opened."""
        self._cookie = ""
        _, page = self._send("GET", "/login/", None, {}, 10)
        form = urlencode({"login": login, "password": password, "csrf_token": csrf_token(page)})
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Referer": "https://{}:{}/login/".format(*self._address),  # asked for behind https
        }
        response, _ = self._send("POST", "/login/", form, headers, 10)
        return response.status == 302

    def get(self, path: str, timeout: float = 10) -> tuple[int, str]:
        """Return status and text of a page."""
        response, text = self._send("GET", path, None, {}, timeout)
        return response.status, text

    def _send(
        self, method: str, path: str, body: str | None, headers: dict[str, str], timeout: float
    ) -> tuple[http.client.HTTPResponse, str]:
        connection = self._connected(timeout)
        if self._cookie:
            headers = headers | {"Cookie": self._cookie}
        connection.request(method, path, body and body.encode(), headers)
        response = connection.getresponse()
        text = response.read().decode()
        if cookie := response.headers.get("Set-Cookie"):
            self._cookie = cookie.partition(";")[0]
        return response, text

    def _connected(self, timeout: float) -> http.client.HTTPConnection:
        """Return the connection, a new one if the service has closed it meanwhile: no request is lost to that."""
        if self._connection and self._connection.sock:
            poller = select.poll()
            poller.register(self._connection.sock, select.POLLIN)
            if poller.poll(0):
                self.close()
        if self._connection is None:
            self._connection = self._new_connection()
        self._connection.timeout = timeout
        if self._connection.sock:
            self._connection.sock.settimeout(timeout)
        return self._connection

    def _new_connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self._address)

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None


def _object(text: str) -> dict[str, Any]:
    with suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {}


@dataclass
class Load:
    """Clients that keep creating users while the `with` block runs. `answers` has them all afterwards."""

    service: Listening
    clients: int = 8
    pause_s: float = 0.0
    timeout_s: float = 10.0
    limit: int | None = None
    """How many requests at the most, all clients together."""
    reconnecting: bool = False
    """Whether every request has a connection of its own: then any worker may get it."""
    client: Callable[[Listening], Client] = Client
    key: str | None = None
    """The idempotency key of every request: an empty one sends none, None a new one each time."""
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._begun = itertools.count(1)
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self.clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def await_answers(self, number: int, seconds: float = 30) -> None:
        """Wait until there are so many answers."""
        eventually(lambda: len(self.answers) >= number, seconds, f"fewer than {number} answers")

    def stop(self) -> list[Answer]:
        """Let every client finish its request; return all answers."""
        self._stopped.set()
        return self.wait()

    def wait(self) -> list[Answer]:
        """Wait until all clients have finished; return all answers."""
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]
        return self.answers

    def _work(self) -> None:
        client = self.client(self.service)
        try:
            while not self._stopped.is_set() and (self.limit is None or next(self._begun) <= self.limit):
                self.answers.append(client.create(key=self.key, timeout=self.timeout_s))
                if self.reconnecting:
                    client.close()
                self._stopped.wait(self.pause_s)
        except BaseException as error:  # raised again where the test sees it
            self._failures.append(error)
        finally:
            client.close()


def burst(service: Listening, requests: int, parallel: int, timeout_s: float = 10) -> list[Answer]:
    """Create so many users, so many at once; return all answers."""
    with Load(service, parallel, timeout_s=timeout_s, limit=requests) as load:
        return load.wait()


def summary(answers: Iterable[Answer]) -> str:
    """Return how often each answer came and how long the slowest three took, for people."""
    answers = list(answers)
    counts = Counter((answer.status, answer.code) for answer in answers)
    slowest = ", ".join(f"{seconds:.2f}" for seconds in sorted(answer.seconds for answer in answers)[-3:])
    told = ", ".join(f"{count} x {status or '-'} {code}" for (status, code), count in counts.most_common())
    return f"{told or 'nothing'}; slowest {slowest} s"
