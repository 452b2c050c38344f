"""Connect to the first of several PostgreSQL hosts that answers and matches `target_session_attrs`."""

from collections.abc import Iterator
from typing import Any

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Engine, event

from project.database.deadline import deadline, remaining

HOST_CONNECT_S = 1.0
"""Connect timeout of a host while there is another one left to try."""


def install_host_failover(engine: Engine) -> None:
    """Make `engine` try the hosts of its URL in turn, starting with the one that answered last.

    libpq can do this itself, but with a wait callback a frozen first host would use up the whole deadline.
    """
    preferred = 0

    @event.listens_for(engine, "do_connect")
    def connect(
        dialect: object, record: object, arguments: list[object], options: dict[str, Any]
    ) -> extensions.connection:
        nonlocal preferred
        hosts = list(_hosts(options))
        candidates = [*hosts[preferred:], *hosts[:preferred]]
        for host in candidates[:-1]:
            try:
                with deadline(HOST_CONNECT_S):
                    connection: extensions.connection = psycopg2.connect(**options | host)
            except psycopg2.OperationalError:
                preferred = (hosts.index(host) + 1) % len(hosts)  # a retry without time for two hosts starts there
                left = remaining()
                if left is not None and left <= 0:
                    raise
            else:
                preferred = hosts.index(host)
                return connection
        connection = psycopg2.connect(**options | candidates[-1])
        preferred = hosts.index(candidates[-1])
        return connection


def _hosts(options: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Split libpq's comma-separated hosts; a single port applies to all of them."""
    names = str(options.get("host", "")).split(",")
    ports = str(options.get("port", "")).split(",")
    for index, name in enumerate(names):
        port = ports[index] if len(ports) > 1 else ports[0]
        yield {key: value for key, value in (("host", name), ("port", port)) if value}
