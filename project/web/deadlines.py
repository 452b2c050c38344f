"""Every request has one deadline, which counts from the moment it was received, time in the queue included."""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from project.outage import deadline
from project.server import RECEIVED


class Deadlines:
    """WSGI middleware. A body that is streamed later is not bounded: each of its questions is, by itself."""

    def __init__(self, app: WSGIApplication, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer inside the deadline."""
        with deadline(self._seconds, start=environ.get(RECEIVED)):
            return self._app(environ, start_response)
