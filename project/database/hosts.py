"""Connects to the first PostgreSQL host that answers and fits `target_session_attrs`."""

import ipaddress
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Engine, event

from project.database.deadline import DeadlineError, HostConnection, HostState, deadline, remaining_seconds
from project.database.name_lookup import NameLookup

HOST_CONNECT_S = 1.0
"""Timeout in seconds for a name lookup, and for connecting to a host that is not the last one to try."""
SILENT_S = 1.0
"""Seconds after which a host that does not answer a check counts as silent, if several hosts are configured."""
LAST_HOST_CONNECT_S = 10.0
"""Timeout in seconds for connecting to the last host to try, unless it was silent or the deadline is earlier."""

_name_lookup = NameLookup()


class ConnectError(psycopg2.OperationalError):
    """Connecting failed. The message of libpq or the server contains no personal data."""


def install_host_failover(engine: Engine) -> None:
    """Make an engine try the hosts of its URL in turn, first the host that answered last.

    libpq can try several hosts, but with a wait callback, a frozen first host would use up the whole deadline.
    Also limits the time for connecting to a single host and for looking up its name.
    """
    failover = _Failover(engine)

    @event.listens_for(engine, "do_connect")
    def connect(
        dialect: object, record: object, arguments: list[object], options: dict[str, Any]
    ) -> extensions.connection:
        hosts = _split_hosts(options)
        if len(hosts) > 1:
            return failover.connect_any(options | {"connection_factory": HostConnection}, hosts)
        with deadline(LAST_HOST_CONNECT_S):
            return _connect(options | hosts[0])


@contextmanager
def detect_silence(connection: object) -> Iterator[None]:
    """Close the connection of a query in the block after SILENT_S; mark its host as silent.

    A query that ends earlier marks the host as not silent. Does nothing if only one host is configured.
    """
    state = connection.host_state if isinstance(connection, HostConnection) else None
    if state is None:
        yield
        return
    end = time.monotonic() + SILENT_S
    try:
        with deadline(SILENT_S):
            yield
    finally:
        state.is_silent = time.monotonic() >= end


class _Failover:
    """The choice of a host for each new connection of an engine.

    If a host is silent and another one answers, all connections to the silent host are abandoned, so that waiting
    requests are retried. A host that refuses connections needs no such step: its connections are closed already.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._preferred_index = 0
        self._current = HostState()
        self._lock = threading.Lock()

    def connect_any(self, options: dict[str, Any], hosts: list[dict[str, str]]) -> extensions.connection:
        """Connect to the first host that answers. Raises psycopg2.OperationalError."""
        silent_host = self._current.host if self._current.is_silent else None
        if hosts[self._preferred_index] == silent_host:
            self._prefer_next(hosts, silent_host)
        first = self._preferred_index  # read once: other threads change the index
        *others, last = [*hosts[first:], *hosts[:first]]
        for host in others:
            try:
                return self._connect(options, hosts, host, HOST_CONNECT_S)
            except psycopg2.OperationalError:
                self._prefer_next(hosts, host)  # a retry may have time for one host only
                left = remaining_seconds()
                if left is not None and left <= 0:
                    raise
        return self._connect(options, hosts, last, HOST_CONNECT_S if last == silent_host else LAST_HOST_CONNECT_S)

    def _connect(
        self, options: dict[str, Any], hosts: list[dict[str, str]], host: dict[str, str], limit_s: float
    ) -> extensions.connection:
        used, end = self._current, time.monotonic() + HOST_CONNECT_S
        try:
            with deadline(limit_s):
                connection = _connect(options | host)
        except psycopg2.OperationalError:
            if host == used.host and time.monotonic() >= end:
                used.is_silent = True
            raise
        self._preferred_index = hosts.index(host)
        cast(HostConnection, connection).host_state = self._record_answer(host)
        return connection

    def _prefer_next(self, hosts: list[dict[str, str]], host: dict[str, str]) -> None:
        """Prefer the host after `host`, unless another thread has changed the preference."""
        if hosts[self._preferred_index] == host:
            self._preferred_index = (hosts.index(host) + 1) % len(hosts)

    def _record_answer(self, host: dict[str, str]) -> HostState:
        """Make `host`, which has answered, the current host; return its state.

        If the previous host was silent, its idle connections are closed, and threads that wait for it get an error.
        """
        with self._lock:
            before = self._current
            if before.host == host:
                before.is_silent = False
                return before
            self._current = state = HostState(host)
        if before.is_silent:
            before.is_abandoned = True
            self._engine.dispose()  # closes the idle connections
        return state


def _connect(options: dict[str, Any]) -> extensions.connection:
    """Connect to a host, trying its addresses in turn. Raises only psycopg2.OperationalError.

    The addresses share the remaining time equally, so that a silent address leaves time for the others.
    """
    *others, last = _address_options(str(options.get("host", "")))
    for number, address in enumerate(others):
        left = remaining_seconds()
        share = HOST_CONNECT_S if left is None else left / (len(others) + 1 - number)
        try:
            with deadline(min(HOST_CONNECT_S, share)):
                return _open_connection(options | address)
        except psycopg2.OperationalError:
            continue
    return _open_connection(options | last)


def _open_connection(options: dict[str, Any]) -> extensions.connection:
    try:
        connection: extensions.connection = psycopg2.connect(**options)
    except DeadlineError:
        raise
    except UnicodeDecodeError as error:  # the server's message is in another encoding, most likely windows-1251
        raise ConnectError(_error_message(options, error.object.decode("cp1251", "replace"))) from error
    except Exception as error:
        raise ConnectError(_error_message(options, str(error))) from error
    return connection


def _error_message(options: dict[str, Any], text: str) -> str:
    """Return a message on one line, with host and port, which libpq omits with a wait callback."""
    return f"{options.get('host') or 'localhost'}:{options.get('port') or 5432}: {' '.join(text.split())}"


def _address_options(host: str) -> list[dict[str, str]]:
    """Resolve a host name; return the connection option `hostaddr` for each of its addresses.

    Returns one empty dictionary for an IP address or a socket. Raises ConnectError.
    """
    if not host or host.startswith(("/", "@")) or _is_address(host):
        return [{}]
    left = remaining_seconds()
    try:
        addresses = _name_lookup.resolve(host, HOST_CONNECT_S if left is None else min(HOST_CONNECT_S, left))
    except OSError as error:
        raise ConnectError(str(error)) from error
    return [{"hostaddr": address} for address in addresses]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _split_hosts(options: dict[str, Any]) -> list[dict[str, str]]:
    """Split libpq's comma-separated hosts and ports. A single port applies to all hosts."""
    names = str(options.get("host", "")).split(",")
    ports = str(options.get("port", "")).split(",")
    pairs = [(name, ports[index if len(ports) > 1 else 0]) for index, name in enumerate(names)]
    return [{key: value for key, value in (("host", name), ("port", port)) if value} for name, port in pairs]
