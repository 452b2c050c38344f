"""The deadline of each request, which includes the time in the queue."""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from project.database import deadline
from project.server import RECEIVED


class DeadlineMiddleware:
    """WSGI middleware that ends database operations of a request `seconds` after its arrival.

    While a streamed response is sent, each query has its own deadline instead.
    """

    def __init__(self, app: WSGIApplication, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with deadline(self._seconds, start=environ.get(RECEIVED)):
            return self._app(environ, start_response)
