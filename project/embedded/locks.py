"""The locks of a root directory, which the kernel frees even after kill -9."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_users: dict[Path, int] = {}  # root -> our shared lock; forked workers share it, other children do not inherit it


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # close-on-exec, like every descriptor of Python


def try_lock(path: Path) -> int | None:
    """Lock the file exclusively and return its descriptor, or None when somebody else holds it."""
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file exclusively; waits for whoever holds it."""
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_user(root: Path) -> bool:
    """Say whether this process already uses the server."""
    return root in _users


def join(root: Path) -> None:
    """Become a user of the server; waits for a server that is just being stopped."""
    if root not in _users:
        descriptor = _open_lock(root / "users.lock")
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        _users[root] = descriptor


def leave(root: Path) -> None:
    """Be no user of the server any longer."""
    if root in _users:
        os.close(_users.pop(root))
