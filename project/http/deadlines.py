"""One deadline per request, counted from its arrival: the queue is included."""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from project.database import deadline
from project.server import RECEIVED


class DeadlineMiddleware:
    """WSGI middleware. Bounds each query of a streamed body, but not the whole body."""

    def __init__(self, app: WSGIApplication, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with deadline(self._seconds, start=environ.get(RECEIVED)):
            return self._app(environ, start_response)
