"""Clients that create users, each with unique data, and record every response."""

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
"""Prefix of every idempotency key that is sent, to search for leaked keys."""
_RUN = uuid.uuid4().hex[:6]
_LETTERS = str.maketrans("0123456789", "ghijklmnop")
"""Usernames without digits are never masked: seven digits may be a phone number."""
_user_numbers = itertools.count(1)
_first_phone = random.randrange(10**7)  # noqa: S311 - not security-relevant


@dataclass(frozen=True)
class Answer:
    """The result of one request.

    `status` is None without a response: the outcome is unknown.
    """

    status: int | None
    json: Mapping[str, Any]
    seconds: float
    headers: Mapping[str, str]
    """By names in title case: `Retry-After`."""
    key: str
    sent: Mapping[str, str]

    @property
    def attempt_id(self) -> str | None:
        """ID of the attempt, from the response."""
        return self.json.get("attempt_id")

    @property
    def code(self) -> str:
        """`created`, `replayed`, an error code, or `broken` without a response."""
        if self.status is None:
            return "broken"
        if self.status == 201:
            return "replayed" if self.is_replay else "created"
        return str(self.json.get("code", "unknown"))

    @property
    def is_replay(self) -> bool:
        """Whether an earlier request has created this user."""
        return self.headers.get("Idempotent-Replayed") == "true"


def new_body(username: str | None = None) -> dict[str, str]:
    """Return the body of a new user with a unique username, phone and e-mail."""
    number = next(_user_numbers)
    username = username or f"u{_RUN}n{number}".translate(_LETTERS)
    phone = f"+7999{(_first_phone + number) % 10**7:07}"
    return {"name": f"Chaos {number}", "username": username, "phone": phone, "email": f"{username}@mail.example.org"}


def new_key() -> str:
    """Return a new idempotency key with a recognizable prefix."""
    return f"{KEY_MARK}-{uuid.uuid4().hex}"


class Endpoint(Protocol):
    """A server that accepts requests: the service, or a proxy in front of it."""

    @property
    def host(self) -> str:
        """The address that the server listens on."""
        ...

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        ...


class Client:
    """A client with one connection, which it reopens when it has broken."""

    def __init__(self, service: Endpoint) -> None:
        self._address = service.host, service.port
        self._connection: http.client.HTTPConnection | None = None
        self._cookie = ""

    def create(self, username: str | None = None, key: str | None = None, timeout: float = 10) -> Answer:
        """Create a new user. With an empty `key`, sends no idempotency key."""
        return self.post(new_body(username), new_key() if key is None else key, timeout)

    def repeat(self, answer: Answer, timeout: float = 10) -> Answer:
        """Send the request of an answer again: the same body with the same key."""
        return self.post(answer.sent, answer.key, timeout)

    def post(self, body: Mapping[str, str], key: str, timeout: float = 10) -> Answer:
        """POST a body to /useradd and return the answer, also if it is an error or none."""
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
        document = _json_object(text)
        names = {name.title(): value for name, value in response.getheaders()}  # some proxies send lower-case names
        return Answer(response.status, document, seconds, names, key or document.get("idempotency_key", ""), body)

    def log_in(self, login: str, password: str) -> bool:
        """Send the login form; return whether the login succeeded."""
        self._cookie = ""
        _, page = self._send("GET", "/login/", None, {}, 10)
        form = urlencode({"login": login, "password": password, "csrf_token": csrf_token(page)})
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Referer": "https://{}:{}/login/".format(*self._address),  # required over HTTPS
        }
        response, _ = self._send("POST", "/login/", form, headers, 10)
        return response.status == 302

    def get(self, path: str, timeout: float = 10) -> tuple[int, str]:
        """Return the status and body of the response to a GET."""
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
        """Return the connection, or a new one if the service has closed it."""
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


def _json_object(text: str) -> dict[str, Any]:
    with suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {}


@dataclass
class Load:
    """Clients that create users while the `with` block runs; `answers` collects the results."""

    service: Endpoint
    clients: int = 8
    pause_s: float = 0.0
    timeout_s: float = 10.0
    limit: int | None = None
    """Maximum number of requests of all clients together."""
    is_reconnecting: bool = False
    """Whether every request opens a new connection, so that any worker may get it."""
    client: Callable[[Endpoint], Client] = Client
    key: str | None = None
    """The idempotency key of every request: "" sends no key, None a new key with each request."""
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._started = itertools.count(1)
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self.clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def await_answers(self, count: int, seconds: float = 30) -> None:
        """Wait until there are at least `count` answers."""
        eventually(lambda: len(self.answers) >= count, seconds, f"fewer than {count} answers")

    def stop(self) -> list[Answer]:
        """Stop after the current requests; return all answers."""
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
            while not self._stopped.is_set() and (self.limit is None or next(self._started) <= self.limit):
                self.answers.append(client.create(key=self.key, timeout=self.timeout_s))
                if self.is_reconnecting:
                    client.close()
                self._stopped.wait(self.pause_s)
        except BaseException as error:  # raised in the test's thread by wait()
            self._failures.append(error)
        finally:
            client.close()


def burst(service: Endpoint, requests: int, parallel: int, timeout_s: float = 10) -> list[Answer]:
    """Create users with `requests` requests, `parallel` at a time; return all answers."""
    with Load(service, parallel, timeout_s=timeout_s, limit=requests) as load:
        return load.wait()


def summarize(answers: Iterable[Answer]) -> str:
    """Return a text with the counts of each answer and the three longest durations."""
    answers = list(answers)
    counts = Counter((answer.status, answer.code) for answer in answers)
    slowest = ", ".join(f"{seconds:.2f}" for seconds in sorted(answer.seconds for answer in answers)[-3:])
    outcomes = ", ".join(f"{count} x {status or '-'} {code}" for (status, code), count in counts.most_common())
    return f"{outcomes or 'none'}; slowest {slowest} s"
