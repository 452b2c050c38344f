"""One deadline per request, counted from its arrival: time in the queue is included."""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from project.database import deadline
from project.server import RECEIVED


class DeadlineMiddleware:
    """WSGI middleware that sets the deadline of a request.

    A streamed body is not bounded as a whole; each of its queries has a deadline of its own.
    """

    def __init__(self, app: WSGIApplication, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with deadline(self._seconds, start=environ.get(RECEIVED)):
            return self._app(environ, start_response)
