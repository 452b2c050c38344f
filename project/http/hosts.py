"""Accepted values of the Host header; others are refused and appear in no response."""

import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress

from flask import Flask, Request
from werkzeug.exceptions import SecurityError
from werkzeug.sansio.utils import get_host

WILDCARDS = {"", "0.0.0.0", "::"}  # noqa: S104 - recognized, not bound here
"""Values of HOST with which the service listens on every address of the machine."""


class TrustedHosts:
    """The accepted hosts, compared without port and case; `.example.org` includes subdomains."""

    def __init__(self, names: Sequence[str], *, any_own_address: bool) -> None:
        normalized = [_normalize(name) for name in names]
        self._suffixes = tuple(name for name in normalized if name.startswith("."))
        self._names = {name.removeprefix(".") for name in normalized}
        self._any_own_address = any_own_address
        """Whether every IP address of this machine is accepted, too."""

    def check(self, request: Request) -> None:
        """Raise SecurityError (400) unless the request's host is accepted."""
        host = get_host(request.scheme, request.environ.get("HTTP_HOST"), request.server)
        name = _normalize(host)
        if name in self._names or name.endswith(self._suffixes):
            return
        if self._any_own_address and _is_own_address(name):
            return
        request.host = ""  # so that no page repeats it
        raise SecurityError("The host is not trusted.")


def init_app(app: Flask, names: Sequence[str], listen: str, *, is_configured: bool) -> None:
    """Accept these hosts; if none is configured, also the IP addresses of this machine."""
    app.extensions["trusted_hosts"] = TrustedHosts(names, any_own_address=not is_configured and listen in WILDCARDS)


def _normalize(host: str) -> str:
    """Return a host in lower case, in ASCII (IDNA), without port and brackets."""
    host = host.lower()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    with suppress(UnicodeError):
        if not host.isascii():
            return "." * host.startswith(".") + host.removeprefix(".").encode("idna").decode()
    return host


def _is_own_address(name: str) -> bool:
    """Return whether `name` is an IP address of this machine: a socket can bind only those."""
    try:
        address = ipaddress.ip_address(name)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((name, 0))
    except (OSError, ValueError):
        return False
    return not (address.is_unspecified or address.is_multicast)
