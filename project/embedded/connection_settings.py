"""Port, password and URL of the embedded server, and connections to it."""

import secrets
import select
import socket
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import psycopg2
from psycopg2 import extensions
from psycopg2.extensions import connection as Connection  # noqa: N812 - psycopg2 names the class in lower case

from .data_directory import DATABASE_NAME, HOST, DataDirectory, EmbeddedPostgresError, write_atomically
from .locks import is_locked

PORTS = range(20000, 32768)  # below the ephemeral ports of common systems
START_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 10.0  # for a server that has announced that it is ready


def server_url(directory: DataDirectory) -> str:
    """Return the `postgresql://` URL of the database; requires a stored port.

    Raises OSError if the password cannot be read.
    """
    return f"postgresql://{DATABASE_NAME}:{_password(directory)}@{HOST}:{_port(directory)}/{DATABASE_NAME}"


def is_ready(directory: DataDirectory) -> bool:
    """Return whether server and database are ready, according to files. Does not connect."""
    with suppress(OSError, IndexError):
        lines = (directory.data / "postmaster.pid").read_text().splitlines()
        is_announced = lines[3] == str(_port(directory)) and lines[7].strip() == "ready"  # see pg_ctl(1)
        return is_announced and _created_marker(directory).exists()
    return False


def await_server(directory: DataDirectory) -> None:
    """Wait until the server accepts connections; create the database if it does not exist.

    Raises EmbeddedPostgresError after START_TIMEOUT_S, or if the server stops or does not answer. Raises psycopg2.Error
    if the database cannot be created, and OSError if a file cannot be used.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    answer_by = time.monotonic() + ANSWER_TIMEOUT_S
    while (connection := connect(directory)) is None:
        now = time.monotonic()
        if not is_ready(directory):
            answer_by = now + ANSWER_TIMEOUT_S
        elif now > answer_by:
            raise EmbeddedPostgresError(f"The embedded PostgreSQL in {directory.root} runs, but does not answer")
        if now > deadline or not is_locked(directory.root / "watcher.lock"):
            log_lines = directory.log.read_text(errors="replace").splitlines()[-15:]
            raise EmbeddedPostgresError(
                "\n".join([f"The embedded PostgreSQL does not start ({directory.log}):", *log_lines])
            )
        time.sleep(0.02)
    with closing(connection):
        if not _query(connection, "select 1 from pg_database where datname = %s", [DATABASE_NAME]):
            _query(connection, f'create database "{DATABASE_NAME}"', timeout_s=START_TIMEOUT_S)
    _created_marker(directory).touch()


def connect(directory: DataDirectory) -> Connection | None:
    """Connect to the database postgres; return None if that fails or it is another server.

    The connection is asynchronous, because connect_timeout has no effect with the wait callback of the service.
    Raises OSError if the password cannot be read.
    """
    port = _port(directory)
    if port is None:
        return None
    with suppress(psycopg2.Error):
        connection = psycopg2.connect(
            host=HOST, port=port, user=DATABASE_NAME, password=_password(directory), dbname="postgres", async_=True
        )
        with suppress(psycopg2.Error):
            _wait(connection, CONNECT_TIMEOUT_S)
            if _query(connection, "show data_directory") == (str(directory.data),):
                return connection
        connection.close()
    return None


def _query(
    connection: Connection, statement: str, values: Sequence[str] = (), timeout_s: float = CONNECT_TIMEOUT_S
) -> tuple[object, ...] | None:
    """Execute a statement; return the first row of its result, or None without a row.

    Raises psycopg2.Error, also after `timeout_s`.
    """
    cursor = connection.cursor()
    cursor.execute(statement, values)
    _wait(connection, timeout_s)
    return cursor.fetchone() if cursor.description else None


def _wait(connection: Connection, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while (state := connection.poll()) != extensions.POLL_OK:
        poller = select.poll()
        poller.register(connection.fileno(), select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
        if not poller.poll(max(0, end - time.monotonic()) * 1000):
            raise psycopg2.OperationalError("timeout expired")


def _created_marker(directory: DataDirectory) -> Path:
    return directory.data / f"{DATABASE_NAME}.created"  # in the data directory, so that it is deleted with the database


def _password(directory: DataDirectory) -> str:
    return (directory.location / "password").read_text()


def _port(directory: DataDirectory) -> int | None:
    with suppress(FileNotFoundError):
        return int((directory.location / "port").read_text())
    return None


def choose_port(directory: DataDirectory) -> int:
    """Return the stored port; if there is none or it is in use, choose and store another one."""
    port = _port(directory)
    while port is None or not _is_free(port):
        port = secrets.choice(PORTS)
    if port != _port(directory):
        write_atomically(directory.location / "port", str(port))
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
