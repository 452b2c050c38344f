"""Reads the client address from the headers of trusted proxies (ASVS 5.0.0, 4.1.3)."""

import ipaddress
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from config import Networks

UNTRUSTED_PROXY = "useradd.untrusted_proxy"
"""WSGI environment key that is set if a proxy is not trusted or does not forward the client address."""


class TrustedProxyMiddleware:
    """WSGI middleware that applies X-Forwarded-For and X-Forwarded-Proto of trusted proxies.

    The client's address is the rightmost address that is not a trusted proxy, because clients can forge the addresses
    to the left of it.
    """

    def __init__(self, app: WSGIApplication, networks: Networks) -> None:
        self._app = app
        self._networks = networks

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        forwarded = environ.pop("HTTP_X_FORWARDED_FOR", "")
        scheme = environ.pop("HTTP_X_FORWARDED_PROTO", "")
        if self._networks and self._trusts(environ.get("REMOTE_ADDR", "")):
            if scheme in {"http", "https"}:
                environ["wsgi.url_scheme"] = scheme
            for hop in reversed([part.strip() for part in forwarded.split(",")]):
                if not _parse_address(hop):
                    if forwarded or scheme:
                        environ[UNTRUSTED_PROXY] = True
                    break
                environ["REMOTE_ADDR"] = hop
                if not self._trusts(hop):
                    break
        elif forwarded or scheme:
            environ[UNTRUSTED_PROXY] = True
        return self._app(environ, start_response)

    def _trusts(self, text: str) -> bool:
        return is_in_networks(text, self._networks)


def is_in_networks(text: str, networks: Networks) -> bool:
    """Return whether `text` is an IP address in one of `networks`."""
    address = _parse_address(text)
    return address is not None and any(address in network for network in networks)


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an IP address and unwrap IPv4-mapped IPv6, which a dual-stack socket reports.

    Returns None if the text is not an IP address.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
