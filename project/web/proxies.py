"""Who is really calling: forwarded headers count only when a trusted proxy wrote them (ASVS 5.0.0, 4.1.3)."""

import ipaddress
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from config import Networks

STRANGE = "useradd.strange_proxy"
"""Key of the WSGI environment: set when a proxy that nobody trusts handed the request on, or one that does not say for
whom, so that the client's address is not known."""


class TrustedProxies:
    """WSGI middleware that sets the client's address and scheme from X-Forwarded-For and X-Forwarded-Proto.

    The client is the rightmost address that is not a trusted proxy: everything left of it can be invented by anybody.
    """

    def __init__(self, app: WSGIApplication, networks: Networks) -> None:
        self._app = app
        self._networks = networks

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Hand the request on with the address of its real client."""
        forwarded = environ.pop("HTTP_X_FORWARDED_FOR", "")
        scheme = environ.pop("HTTP_X_FORWARDED_PROTO", "")
        if self._networks and self._trusts(environ.get("REMOTE_ADDR", "")):
            if scheme in {"http", "https"}:
                environ["wsgi.url_scheme"] = scheme
            for hop in reversed([part.strip() for part in forwarded.split(",")]):
                if not _address(hop):
                    if forwarded or scheme:
                        environ[STRANGE] = True
                    break
                environ["REMOTE_ADDR"] = hop
                if not self._trusts(hop):
                    break
        elif forwarded or scheme:
            environ[STRANGE] = True
        return self._app(environ, start_response)

    def _trusts(self, text: str) -> bool:
        return lies_in(text, self._networks)


def lies_in(text: str, networks: Networks) -> bool:
    """Tell whether an address is one, and belongs to one of these networks."""
    address = _address(text)
    return address is not None and any(address in network for network in networks)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a text is; of IPv4 within IPv6, as a socket for both tells it, the one of IPv4."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
