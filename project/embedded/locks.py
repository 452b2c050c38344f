"""File locks in the root directory. The kernel releases them even after kill -9."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_TIMEOUT_S = 240.0  # longer than a start or a stop of the server may take
_shared_locks: dict[Path, int] = {}  # root -> shared lock of this process; inherited by fork, not by exec


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # close-on-exec, as always in Python


def try_lock(path: Path) -> int | None:
    """Lock a file exclusively; return its descriptor, or None if it is locked already."""
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(path: Path) -> bool:
    """Return whether a file is locked, also by this process; lock it briefly to find out."""
    lock = try_lock(path)
    if lock is not None:
        os.close(lock)
    return lock is None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for an exclusive lock on a file and hold it within the block.

    Raises TimeoutError after LOCK_TIMEOUT_S.
    """
    descriptor = _wait_for(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def is_using(root: Path) -> bool:
    """Return whether this process holds the shared lock in `root`, a resolved path."""
    return root in _shared_locks


def start_using(root: Path) -> None:
    """Acquire the shared lock on users.lock, which keeps the server running.

    `root` must be resolved. Waits while the watcher stops the server. Raises TimeoutError after LOCK_TIMEOUT_S.
    """
    if root not in _shared_locks:
        _shared_locks[root] = _wait_for(root / "users.lock", fcntl.LOCK_SH)


def _wait_for(path: Path, kind: int) -> int:
    """Wait for a lock; return its descriptor. Raises TimeoutError: the holder may be frozen."""
    descriptor = _open_lock(path)
    end = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(descriptor)
                raise TimeoutError(f"another process has held {path} for {LOCK_TIMEOUT_S:g} s") from None
            time.sleep(0.02)
        else:
            return descriptor


def stop_using(root: Path) -> None:
    """Release the shared lock on users.lock, so that the watcher can stop the server.

    `root` must be resolved. Does nothing if this process does not hold the lock. Processes that were forked while it
    was held still hold it.
    """
    if root in _shared_locks:
        os.close(_shared_locks.pop(root))
