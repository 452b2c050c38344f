"""Port, password and URL of the embedded server."""

import secrets
import socket
import time
from contextlib import closing, suppress

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - psycopg2 names the class in lower case

from .data_directory import HOST, NAME, DataDirectory, EmbeddedPostgresError, write_atomically
from .locks import try_lock

PORTS = range(20000, 32768)  # below the ephemeral ports of common systems
START_TIMEOUT = 60.0


def await_server(directory: DataDirectory) -> str:
    """Return the URL once the server answers. Raises EmbeddedPostgresError."""
    deadline = time.monotonic() + START_TIMEOUT
    while (connection := connect(directory)) is None:
        watcher_lock = try_lock(directory.root / "watcher.lock")
        if watcher_lock is not None or time.monotonic() > deadline:
            log_lines = directory.log.read_text(errors="replace").splitlines()[-15:]
            raise EmbeddedPostgresError(
                "\n".join([f"The embedded PostgreSQL does not start ({directory.log}):", *log_lines])
            )
        time.sleep(0.02)
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("select 1 from pg_database where datname = %s", [NAME])
        if not cursor.fetchone():
            cursor.execute(f'create database "{NAME}"')
    return f"postgresql://{NAME}:{_password(directory)}@{HOST}:{_port(directory)}/{NAME}"


def connect(directory: DataDirectory) -> Connection | None:
    """Return a connection, or None if no server on the stored port uses this data directory."""
    port = _port(directory)
    if port is None:
        return None
    try:
        connection = psycopg2.connect(
            host=HOST, port=port, user=NAME, password=_password(directory), dbname="postgres", connect_timeout=3
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("show data_directory")
            if cursor.fetchone() == (str(directory.data),):
                return connection
        connection.close()
    except psycopg2.Error:
        pass
    return None


def _password(directory: DataDirectory) -> str:
    return (directory.location / "password").read_text()


def _port(directory: DataDirectory) -> int | None:
    with suppress(FileNotFoundError):
        return int((directory.location / "port").read_text())
    return None


def choose_port(directory: DataDirectory) -> int:
    """Return the stored port; choose and store another one if it is taken."""
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
