"""A client that logs in and requests pages and files over one connection."""

import http.client
import json
import time
from dataclasses import dataclass
from threading import Event
from urllib.parse import urlencode

from bench.load import HOST
from tests.builders import csrf_token

LOGIN = "reader"
BLOCK = 1024 * 1024
MAX_IDLE_S = 5
"""Seconds after which an idle connection is reopened, because the service closes it after 15 s."""
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of a response, in seconds from the request."""

    seconds: float
    first_byte_s: float
    """Seconds until the first byte of the body."""


class Reader:
    """A client that is logged in as a new user, or that has the session of `cookie`."""

    def __init__(self, port: int, cookie: str = "") -> None:
        self._http = http.client.HTTPConnection(HOST, port)
        self._buffer = bytearray(BLOCK)
        self._used_at = time.perf_counter()
        self.cookie, self.form_cookie, self.form = cookie, "", ""
        """The session; a login form, and the session to which its CSRF token belongs."""
        if not cookie:
            self._log_in(self._create())

    def get(self, path: str, stop: Event | None = None) -> Timing:
        """Receive a response completely or until `stop` is set.

        Raises RuntimeError if its status is not 200.
        """
        self._close_if_idle()
        began = time.perf_counter()
        self._http.request("GET", path, headers={"Cookie": self.cookie})
        response = self._http.getresponse()
        response.read(1)
        first = time.perf_counter() - began
        while response.readinto(self._buffer) and not (stop and stop.is_set()):
            pass
        self._used_at = time.perf_counter()
        if response.status != http.client.OK:
            raise RuntimeError(f"{path} answered {response.status}")
        if not response.isclosed():
            self._http.close()
        return Timing(self._used_at - began, first)

    def _close_if_idle(self) -> None:
        if time.perf_counter() > self._used_at + MAX_IDLE_S:
            self._http.close()

    def count_attempts(self) -> int:
        """Return the number of attempts that the statistics count."""
        return int(json.loads(self._send("GET", "/api/v1/stats/"))["total"])

    def _create(self) -> str:
        person = {"name": "Reader", "username": LOGIN, "email": "reader@example.org"}
        response = self._send("POST", "/api/v1/useradd/", json.dumps(person), "application/json")
        return str(json.loads(response)["password"])

    def _log_in(self, password: str) -> None:
        page = self._send("GET", "/login/")
        self.form_cookie = self.cookie
        self.form = urlencode({"login": LOGIN, "password": password, "csrf_token": csrf_token(page)})
        self._send("POST", "/login/", self.form, FORM)

    def _send(self, method: str, path: str, body: str | None = None, content_type: str = "") -> str:
        self._close_if_idle()
        headers = {"Cookie": self.cookie} | ({"Content-Type": content_type} if body else {})
        self._http.request(method, path, body, headers)
        response = self._http.getresponse()
        text = response.read().decode()
        self._used_at = time.perf_counter()
        if response.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"{path} answered {response.status}: {text[:500]}")
        for cookie in response.headers.get_all("Set-Cookie") or ():
            self.cookie = cookie.partition(";")[0]
        return text
