"""Small file systems that tests fill, and slow or frozen disks.

A small file system is visible to one process and vanishes with it.
"""

import functools
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

_IS_ROOT = os.geteuid() == 0
_NAMESPACE = ["unshare", "--mount"] if _IS_ROOT else ["unshare", "--user", "--map-root-user", "--mount"]
"""Command prefix for mounting, which needs root. Other users are root in a user namespace, if the kernel allows one."""
_BACK = [] if _IS_ROOT else ["unshare", "--user", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]
"""Command prefix that returns to the real user, because PostgreSQL refuses to run as root."""
_MOUNT = 'mount -t tmpfs -o "$0" chaos "$1" && shift && exec "$@"'
BLOCK = 4096


def on_small_disk(folder: Path, mib: int, owner: int | None = None) -> list[str]:
    """Return a command prefix that mounts an empty file system of `mib` MiB at `folder`.

    The command runs under the same process ID. Skips the test without the privileges to mount.
    """
    if not _may_mount():
        pytest.skip("needs root or unprivileged user namespaces")
    options = f"size={mib}m,mode=0700" + ("" if owner is None else f",uid={owner},gid={owner}")
    return [*_NAMESPACE, "sh", "-c", _MOUNT, options, str(folder), *_BACK]


@functools.cache
def _may_mount() -> bool:
    command = [*_NAMESPACE, "mount", "-t", "tmpfs", "chaos", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


class FaultyDisk:
    """A slow or frozen disk, simulated by wrapping system calls in the Python of a service.

    Freezing a real file system would need a block device.
    """

    def __init__(self, folder: Path, data_dir: Path) -> None:
        """Write the wrapper to `folder`. A service loads it if started with `self.settings`."""
        folder.mkdir()
        self._flush_s, self._frozen = folder / "flush_s", folder / "frozen"
        self.settings = {"PYTHONPATH": str(folder)}
        values = (str(data_dir / "spool"), str(self._flush_s), str(self._frozen))
        (folder / "sitecustomize.py").write_text(_FAULTY_CALLS.format(*map(repr, values)))

    def slow_down(self, flush_s: float) -> None:
        """Make every flush take `flush_s` seconds longer."""
        self._flush_s.write_text(str(flush_s))

    def freeze(self) -> None:
        """Make every write and flush wait until thaw()."""
        self._frozen.touch()

    def thaw(self) -> None:
        """End the wait of writes and flushes."""
        self._frozen.unlink(missing_ok=True)


_FAULTY_CALLS = """
import os
import time

def wrap(call, flushes=False):
    def slow(fd, *arguments):
        if os.readlink("/proc/self/fd/%d" % fd).startswith({0}):
            if flushes and os.path.exists({1}):
                with open({1}) as file:
                    time.sleep(float(file.read() or 0))
            while os.path.exists({2}):
                time.sleep(0.01)
        return call(fd, *arguments)
    return slow

os.write, os.pwrite, os.ftruncate = wrap(os.write), wrap(os.pwrite), wrap(os.ftruncate)
os.fsync, os.fdatasync = wrap(os.fsync, True), wrap(os.fdatasync, True)
"""


def path_seen_by(pid: int, path: Path) -> Path:
    """Return the path at which this process finds what the process `pid` sees at `path`."""
    return Path(f"/proc/{pid}/root{path}")


def fill_disk(folder: Path) -> Path:
    """Fill the file system of a folder to the last byte; return the file that fills it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(BLOCK))
    assert os.statvfs(folder).f_bavail == 0
    return ballast
