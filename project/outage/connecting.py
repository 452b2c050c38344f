"""Connecting to the first of several hosts that answers and takes writes."""

from collections.abc import Iterator
from typing import Any

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Engine, event

from project.outage.deadline import deadline, remaining

HOST_CONNECT_S = 1.0
"""What a host may take to answer while there is another one to ask."""


def connect_in_turn(engine: Engine) -> None:
    """Let `engine` ask the hosts of its address one after the other, beginning with the one that answered last.

    libpq does that too, but not in time: with a wait callback a frozen first host would use up the whole deadline.
    """
    best = 0

    @event.listens_for(engine, "do_connect")
    def connect(
        dialect: object, record: object, arguments: list[object], options: dict[str, Any]
    ) -> extensions.connection:
        nonlocal best
        hosts = list(_hosts(options))
        turns = [*hosts[best:], *hosts[:best]]
        for host in turns[:-1]:
            try:
                with deadline(HOST_CONNECT_S):
                    found: extensions.connection = psycopg2.connect(**options | host)
            except psycopg2.OperationalError:
                best = (hosts.index(host) + 1) % len(hosts)  # whoever has no time for the next one begins there
                left = remaining()
                if left is not None and left <= 0:
                    raise
            else:
                best = hosts.index(host)
                return found
        found = psycopg2.connect(**options | turns[-1])
        best = hosts.index(turns[-1])
        return found


def _hosts(options: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Split libpq's comma-separated hosts; one port may stand for all of them."""
    names = str(options.get("host", "")).split(",")
    ports = str(options.get("port", "")).split(",")
    for number, name in enumerate(names):
        port = ports[number] if len(ports) > 1 else ports[0]
        yield {key: value for key, value in (("host", name), ("port", port)) if value}
