"""The deadline of each request, which counts from its arrival and so includes queueing."""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from project.database import deadline
from project.server import RECEIVED


class DeadlineMiddleware:
    """WSGI middleware that ends database operations of a request `seconds` after its arrival.

    The deadline does not apply while a streamed response is sent; then each query has its own deadline.
    """

    def __init__(self, app: WSGIApplication, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with deadline(self._seconds, start=environ.get(RECEIVED)):
            return self._app(environ, start_response)
