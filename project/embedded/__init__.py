"""Embedded PostgreSQL: creates, starts, shares and stops a server from a wheel.

Every process that uses the server holds a *shared* lock until it exits; the kernel releases it even after kill -9. A
watcher process runs the server as its child, restarts it when it dies, and stops it once it gets that lock
*exclusively*, when no user is left. The root directory contains:

    start.lock  users.lock  watcher.lock     held while starting, using and watching the server
    data  password  port                     the cluster, the password of its only role, the port it listens on
    postgres.log  location                   the server log; the directory of `data  password  port` if not this one

Imports are relative: the watcher loads this package by its path, without the rest of the service.
"""

import subprocess
from pathlib import Path

import psycopg2

from .cluster import initialise, refuse_other_major
from .connection_settings import await_server
from .data_directory import EmbeddedPostgresError, prepare_data_directory, wheel_programs
from .locks import is_used, locked, start_using, stop_using
from .watcher import start_watcher

__all__ = ["EmbeddedPostgresError", "ensure"]


def ensure(root: Path, *, bin_dir: Path | None = None) -> str:
    """Create and start the server in `root` if needed; return its `postgresql://` URL.

    The server runs until the last process that called ensure() exits. `bin_dir` is the directory of the server
    programs, e.g. /usr/lib/postgresql/15/bin; by default that of the wheel. Raises EmbeddedPostgresError.
    """
    root = root.resolve()
    is_first_use = not is_used(root)
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
            refuse_other_major(directory)
        else:
            initialise(directory)
        start_watcher(directory)
        return await_server(directory)
