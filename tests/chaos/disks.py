"""Disks that can be full: small ones, which only the process that gets one sees, and whose end is theirs, too."""

import functools
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

_IS_ROOT = os.geteuid() == 0
_NAMESPACE = ["unshare", "--mount"] if _IS_ROOT else ["unshare", "--user", "--map-root-user", "--mount"]
"""Only root may mount: in a user namespace of his own everybody is root, where the kernel allows these."""
_BACK = [] if _IS_ROOT else ["unshare", "--user", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]
"""Nobody else is to notice: PostgreSQL refuses root."""
_MOUNT = 'mount -t tmpfs -o "$0" chaos "$1" && shift && exec "$@"'
BLOCK = 4096


def on_small_disk(folder: Path, mib: int, owner: int | None = None) -> list[str]:
    """Return what to put before a command for which `folder` shall be an empty disk of so many MiB.

    The command is run in place of it, under the same process id. Skips the test where nobody may mount anything.
    """
    if not _may_mount():
        pytest.skip("needs root, or a kernel that gives others a namespace to mount in")
    options = f"size={mib}m,mode=0700" + ("" if owner is None else f",uid={owner},gid={owner}")
    return [*_NAMESPACE, "sh", "-c", _MOUNT, options, str(folder), *_BACK]


@functools.cache
def _may_mount() -> bool:
    command = [*_NAMESPACE, "mount", "-t", "tmpfs", "chaos", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


def seen_by(pid: int, path: Path) -> Path:
    """Return the way to what a process sees at `path`."""
    return Path(f"/proc/{pid}/root{path}")


def fill(folder: Path) -> Path:
    """Leave not a byte on the disk of a folder; return the file that takes it all."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(BLOCK))
    assert os.statvfs(folder).f_bavail == 0
    return ballast
