"""File locks in the root directory; the kernel releases them even after kill -9."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_used: dict[Path, int] = {}  # root -> our shared lock; inherited by forked workers, not through exec


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # close-on-exec, as always in Python


def try_lock(path: Path) -> int | None:
    """Lock a file exclusively; return its descriptor, None if another process holds the lock."""
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(path: Path) -> bool:
    """Return whether another process holds the lock."""
    lock = try_lock(path)
    if lock is not None:
        os.close(lock)
    return lock is None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for an exclusive lock on a file and hold it in the block."""
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_used(root: Path) -> bool:
    """Return whether this process uses the server."""
    return root in _used


def start_using(root: Path) -> None:
    """Take the shared lock; waits while the watcher stops the server."""
    if root not in _used:
        descriptor = _open_lock(root / "users.lock")
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        _used[root] = descriptor


def stop_using(root: Path) -> None:
    """Release the shared lock."""
    if root in _used:
        os.close(_used.pop(root))
