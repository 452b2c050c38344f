"""The cluster: how it is made, and how the server runs on it."""

import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from .data_directory import HOST, NAME, DataDirectory, EmbeddedPostgresError, hand_over, version, write

ROOM_NEEDED = 200 * 2**20
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
    # Statements and DETAIL lines carry what people typed in: names, e-mail addresses, phones.
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


def refuse_other_major(directory: DataDirectory) -> None:
    """Refuse data that these programs cannot read."""
    made_by = (directory.data / "PG_VERSION").read_text().strip()
    if int(made_by) != _major(directory.programs):
        raise EmbeddedPostgresError(
            f"The data in {directory.data} was made by PostgreSQL {made_by}, the programs in {directory.programs} are "
            f"PostgreSQL {version(directory.programs)}. Use another directory, or move the data "
            "with pg_dump and pg_restore."
        )


def initialise(directory: DataDirectory) -> None:
    """Make the cluster and its password; half made, it is never taken for one."""
    if shutil.disk_usage(directory.home).free < ROOM_NEEDED:
        raise EmbeddedPostgresError(f"No room for a PostgreSQL in {directory.home}: it needs {ROOM_NEEDED >> 20} MB.")
    for leftover in directory.home.glob("data.init-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    write(directory.home / "password", secrets.token_urlsafe(24))
    draft = Path(tempfile.mkdtemp(prefix="data.init-", dir=directory.home))
    owner = directory.identity.uid or 0
    hand_over(draft, owner)
    hand_over(directory.home / "password", owner)
    _initdb(directory, draft)
    draft.rename(directory.data)


def run_server(directory: DataDirectory, port: int, *, replaces: str) -> subprocess.Popen[bytes]:
    """Start the server; `replaces` is the pid that an earlier one left in its lock file."""
    hand_over(directory.data, directory.identity.uid or 0)
    settings = [f"-c{name}={value}" for name, value in SETTINGS.items()]
    command = [str(directory.programs / "postgres"), "-D", str(directory.data), "-p", str(port), *settings]
    return _spawn(directory, command, replaces=replaces)


def _initdb(directory: DataDirectory, draft: Path) -> None:
    # Upper and lower case of all letters, the same everywhere, without the locales of the system.
    builtin = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    initdb = _spawn(
        directory,
        [str(directory.programs / "initdb"), "--pgdata", str(draft), "--username", NAME, "--encoding=UTF8"]
        + (builtin if _major(directory.programs) >= 17 else ["--locale=C.UTF-8"])
        + ["--auth=scram-sha-256", "--pwfile", str(directory.home / "password"), "--data-checksums"],
        output=subprocess.PIPE,
    )
    said = initdb.communicate()[0].decode(errors="replace")
    if initdb.returncode != 0:
        raise EmbeddedPostgresError(f"initdb failed in {directory.home}:\n{said}")


def _spawn(
    directory: DataDirectory, command: list[str], *, output: int | None = None, replaces: str = ""
) -> subprocess.Popen[bytes]:
    """Run a server program as whom it has to be, with nothing of our environment."""
    uid = directory.identity.uid
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "TZ": "UTC",
        "LD_LIBRARY_PATH": f"{directory.programs.parents[1]}.libs",  # needed where /proc is missing
    }
    # PostgreSQL does not start while the pid in its lock file exists: a zombie, or by now somebody else. A pid
    # called its grandparent it leaves out of this, and still checks the shared memory for survivors of a crash.
    return subprocess.Popen(
        [*directory.identity.prefix, *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=directory.home,  # older majors insist on coming back to where they were started
        env=environment | ({"PG_GRANDPARENT_PID": replaces} if replaces else {}),
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
    )


def _major(programs: Path) -> int:
    return int(version(programs).partition(".")[0])
