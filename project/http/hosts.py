"""Checks the Host header: requests with an unknown host are refused with 400."""

import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress

from flask import Flask, Request
from werkzeug.exceptions import SecurityError
from werkzeug.sansio.utils import get_host

from project.domain.text import clean

WILDCARDS = {"", "0.0.0.0", "::"}  # noqa: S104 - recognized, not bound here
"""Values of the setting HOST with which the service listens on every address of the machine."""
MAX_SHOWN_CHARACTERS = 100
"""Maximum number of characters of a refused host in the response and in the log."""


class UnknownHostError(SecurityError):
    """The request names a host that is not trusted. `host` is its Host header, made printable."""

    def __init__(self, host: str) -> None:
        super().__init__("The host is not trusted.")
        self.host = host


class TrustedHosts:
    """The hosts that requests may name. `.example.org` also stands for its subdomains.

    Port, letter case and a final dot are ignored.
    """

    def __init__(self, names: Sequence[str], *, any_own_address: bool) -> None:
        normalized = [normalize_host(name) for name in names]
        self._suffixes = tuple(name for name in normalized if name.startswith("."))
        self._names = {name.removeprefix(".") for name in normalized}
        self._any_own_address = any_own_address
        """Whether the IP addresses of this machine are accepted, too."""

    def check_host(self, request: Request) -> str:
        """Return the host of a request. Raises UnknownHostError (400) if the host is not trusted."""
        host = get_host(request.scheme, request.environ.get("HTTP_HOST"), request.server)
        if host in self._names:  # saves normalize_host() for most requests
            return host
        name = normalize_host(host)
        if name in self._names or name.endswith(self._suffixes):
            return host
        if self._any_own_address and _is_own_address(name):
            return host
        request.host = ""  # so that links on the error page do not contain the refused host
        raise UnknownHostError(clean(request.environ.get("HTTP_HOST", host), MAX_SHOWN_CHARACTERS))


def init_app(app: Flask, names: Sequence[str], bind_host: str, *, is_configured: bool) -> None:
    """Trust the hosts `names`, and unless `is_configured`, also the addresses of this machine.

    The addresses are trusted only if `bind_host` is a wildcard: then the service listens on all of them.
    """
    app.extensions["trusted_hosts"] = TrustedHosts(names, any_own_address=not is_configured and bind_host in WILDCARDS)


def normalize_host(host: str) -> str:
    """Return a host in lower case, in ASCII (IDNA), without port, brackets and final dot."""
    host = host.lower()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    host = host.removesuffix(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    with suppress(UnicodeError):
        if not host.isascii():
            return "." * host.startswith(".") + host.removeprefix(".").encode("idna").decode()
    return host


def _is_own_address(name: str) -> bool:
    """Return whether `name` is an IP address of this machine: a socket can be bound to it."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    if address.is_unspecified or address.is_multicast:
        return False
    if address.version == 4:
        return _can_bind(socket.AF_INET, (name, 0))
    # Clients omit the zone of a link-local address (RFC 6874, 4), so each zone is tried
    zones = [index for index, _ in socket.if_nameindex()] if address.is_link_local else [0]
    return any(_can_bind(socket.AF_INET6, (name, 0, 0, zone)) for zone in zones)


def _can_bind(family: socket.AddressFamily, address: tuple[str | int, ...]) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind(address)
    except OSError:
        return False
    return True
