"""Connects to the first PostgreSQL host that answers and fits `target_session_attrs`."""

import ipaddress
from typing import Any

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Engine, event

from project.database.deadline import DeadlineError, deadline, remaining
from project.database.name_lookup import NameLookup

HOST_CONNECT_S = 1.0
"""Seconds to connect to a host while another one is left to try; also the timeout of a name lookup."""
LAST_HOST_CONNECT_S = 10.0
"""Seconds to connect to the last host where there is no deadline: in migrations."""

_names = NameLookup()


class ConnectError(psycopg2.OperationalError):
    """A failed connection. The message of libpq or the server contains no personal data."""


def install_host_failover(engine: Engine) -> None:
    """Make an engine try the hosts of its URL in turn, first the one that answered last.

    libpq can do this itself, but then, with a wait callback, a frozen first host would use up the whole deadline.
    """
    preferred = 0

    @event.listens_for(engine, "do_connect")
    def connect(
        dialect: object, record: object, arguments: list[object], options: dict[str, Any]
    ) -> extensions.connection:
        nonlocal preferred
        hosts = _hosts(options)
        candidates = [*hosts[preferred:], *hosts[:preferred]]
        for host in candidates[:-1]:
            try:
                with deadline(HOST_CONNECT_S):
                    connection = _connect(options | host)
            except psycopg2.OperationalError:
                preferred = (hosts.index(host) + 1) % len(hosts)  # the next try may have time for one host only
                left = remaining()
                if left is not None and left <= 0:
                    raise
            else:
                preferred = hosts.index(host)
                return connection
        with deadline(LAST_HOST_CONNECT_S):
            connection = _connect(options | candidates[-1])
        preferred = hosts.index(candidates[-1])
        return connection


def _connect(options: dict[str, Any]) -> extensions.connection:
    """Connect to one host, trying all its addresses. Raises only psycopg2.OperationalError."""
    *others, last = _addresses(str(options.get("host", "")))
    for address in others:
        try:
            with deadline(HOST_CONNECT_S):
                return _open(options | address)
        except psycopg2.OperationalError:
            continue
    return _open(options | last)


def _open(options: dict[str, Any]) -> extensions.connection:
    try:
        connection: extensions.connection = psycopg2.connect(**options)
    except DeadlineError:
        raise
    except UnicodeDecodeError as error:  # the server's message is in another encoding, most likely windows-1251
        raise ConnectError(_message(options, error.object.decode("cp1251", "replace"))) from error
    except Exception as error:
        raise ConnectError(_message(options, str(error))) from error
    return connection


def _message(options: dict[str, Any], text: str) -> str:
    """Return the message on one line after the host, which libpq omits with a wait callback."""
    return f"{options.get('host') or 'localhost'}:{options.get('port') or 5432}: {' '.join(text.split())}"


def _addresses(host: str) -> list[dict[str, str]]:
    """Return an option `hostaddr` per address of a host name; no options for IP and socket."""
    if not host or host.startswith(("/", "@")) or _is_address(host):
        return [{}]
    left = remaining()
    try:
        addresses = _names.resolve(host, HOST_CONNECT_S if left is None else min(HOST_CONNECT_S, left))
    except OSError as error:
        raise ConnectError(str(error)) from error
    return [{"hostaddr": address} for address in addresses]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _hosts(options: dict[str, Any]) -> list[dict[str, str]]:
    """Split the comma-separated hosts and ports of libpq; a single port applies to all hosts."""
    names = str(options.get("host", "")).split(",")
    ports = str(options.get("port", "")).split(",")
    pairs = [(name, ports[index if len(ports) > 1 else 0]) for index, name in enumerate(names)]
    return [{key: value for key, value in (("host", name), ("port", port)) if value} for name, port in pairs]
