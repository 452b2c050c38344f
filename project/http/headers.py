"""Security headers of every response (ASVS 5.0.0, 3.4)."""

from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
FIXED_HEADERS = [
    ("Content-Security-Policy", CSP),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
]
HSTS = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
NO_STORE = ("Cache-Control", "no-store")
MAX_HEADER_LENGTHS = {"HTTP_ACCEPT": 500, "HTTP_ACCEPT_ENCODING": 200, "HTTP_ACCEPT_LANGUAGE": 200}
"""WSGI environment key of a request header -> maximum length; the rest is cut off. Browsers send less, and parsing
16 KB takes 20 ms of CPU time."""


class SecurityHeadersMiddleware:
    """WSGI middleware that adds security headers to each response.

    An after_request hook would be slower and would miss some responses.
    """

    def __init__(self, app: WSGIApplication, *, https_only: bool) -> None:
        self._app = app
        self._https_only = https_only

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Drop the Range header, cut long request headers, and add headers to the response.

        A server may ignore Range (RFC 9110, 14.2). Whole files are sent from the disk, but ranges would be read into
        memory.
        """
        environ.pop("HTTP_RANGE", None)
        for name, length in MAX_HEADER_LENGTHS.items():
            if name in environ:
                environ[name] = environ[name][:length]
        is_secure = self._https_only or environ["wsgi.url_scheme"] == "https"
        is_static = environ["PATH_INFO"].startswith("/static/")

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            headers += FIXED_HEADERS
            if is_secure:
                headers.append(HSTS)
            if not is_static and "Cache-Control" not in dict(headers):
                headers.append(NO_STORE)
            return start_response(status, headers, exc_info)

        return self._app(environ, start)
