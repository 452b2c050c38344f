"""Embedded PostgreSQL: a server from a Python wheel, shared by all processes that use it.

Every process that uses the server holds a *shared* lock until it exits; the kernel releases the lock even after
kill -9. A watcher process runs the server as its child and restarts it if it dies. As soon as the watcher can acquire
the lock *exclusively*, no process uses the server, and the watcher stops it. The root directory contains:

    start.lock  users.lock  watcher.lock     held while starting, using and watching the server
    data  password  port                     the cluster, the password of its only role, the port of the server
    postgres.log                             the log of the server
    programs-VERSION                         a copy of the programs, if `nobody` cannot reach the original
    location                                 the directory with data, password, port and programs, if not the root

Imports are relative: the watcher loads this package by its path, without the rest of the service.
"""

import logging
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
from psycopg2.extensions import parse_dsn

from .cluster import check_major_version, create_cluster
from .connection_settings import await_server, is_ready, server_url
from .data_directory import DataDirectory, EmbeddedPostgresError, prepare_data_directory, wheel_programs
from .locks import is_using, locked, start_using, stop_using
from .watcher import start_watcher

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "ensure_running"]

log = logging.getLogger(__name__)

WATCH_EVERY_S = 3.0
"""Interval in seconds at which a serving process checks that a watcher is running."""


class EmbeddedPostgres:
    """The embedded PostgreSQL server of an application. start() starts the server if needed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._options: dict[str, str] = {}
        self._lock = threading.Lock()

    def start(self) -> dict[str, str]:
        """Start the server if it is not running; return the options for psycopg2.connect().

        A start takes seconds, and waits for other processes up to minutes. Later calls return the same options. If the
        server is running, the method returns at once and sends no query. Raises EmbeddedPostgresError.
        """
        with self._lock:
            if not self._options:
                with ThreadPoolExecutor(1) as thread:  # a start takes longer than the deadline of a request
                    self._options = parse_dsn(thread.submit(ensure_running, self._root).result())
            return self._options

    def keep_watched(self) -> None:
        """Start a thread that replaces the watcher process if it was killed.

        The thread checks the process every WATCH_EVERY_S.
        """
        threading.Thread(target=self._watch, name="embedded-postgres", daemon=True).start()

    def _watch(self) -> None:
        directory: DataDirectory | None = None
        while True:
            time.sleep(WATCH_EVERY_S)
            try:
                directory = directory or prepare_data_directory(self._root.resolve(), wheel_programs().resolve())
                if start_watcher(directory):
                    log.warning("watcher of the embedded PostgreSQL died, replaced it")
            except (OSError, subprocess.SubprocessError, EmbeddedPostgresError):
                log.exception("watcher of the embedded PostgreSQL cannot be started")


def ensure_running(root: Path, *, bin_dir: Path | None = None) -> str:
    """Create and start the server in `root` if needed; return its `postgresql://` URL.

    The server runs until the last process that called ensure_running() exits or calls stop_using(). A running server is
    not queried, because it may be frozen. `bin_dir` is the directory of the server programs, such as
    /usr/lib/postgresql/15/bin; by default that of the wheel. Raises EmbeddedPostgresError.
    """
    root = root.resolve()
    is_first_use = not is_using(root)
    try:
        return _start(root, (bin_dir or wheel_programs()).resolve())
    except BaseException as error:
        if is_first_use:
            stop_using(root)
        if isinstance(error, OSError | subprocess.SubprocessError | psycopg2.Error):
            raise EmbeddedPostgresError(f"The embedded PostgreSQL in {root} does not start: {error}") from error
        raise


def _start(root: Path, programs: Path) -> str:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(root / "start.lock"):
        start_using(root)
        directory = prepare_data_directory(root, programs)
        if directory.data.exists():
            check_major_version(directory)
        else:
            create_cluster(directory)
        if start_watcher(directory) or not is_ready(directory):
            await_server(directory)
        return server_url(directory)
