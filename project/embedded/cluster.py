"""Creates the database cluster and runs the server on it."""

import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from .data_directory import (
    DATABASE_NAME,
    HOST,
    DataDirectory,
    EmbeddedPostgresError,
    change_owner,
    server_version,
    write_atomically,
)

MIN_FREE_BYTES = 200 * 2**20
INITDB_TIMEOUT_S = 120.0  # initdb flushes 40 MB, which is slow on some disks
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
    "log_checkpoints": "off",
    # Statements and DETAIL lines contain personal data: names, e-mail addresses, phone numbers.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


def check_major_version(directory: DataDirectory) -> None:
    """Raise EmbeddedPostgresError if data and programs have different major versions.

    Raises OSError or subprocess.SubprocessError if a version cannot be read.
    """
    data_version = (directory.data / "PG_VERSION").read_text().strip()
    if int(data_version) != _major_version(directory.programs):
        raise EmbeddedPostgresError(
            f"The data in {directory.data} was made by PostgreSQL {data_version}, the programs in {directory.programs} "
            f"are PostgreSQL {server_version(directory.programs)}. Use another directory, or migrate the data with "
            "pg_dump and pg_restore."
        )


def create_cluster(directory: DataDirectory) -> None:
    """Check the disk space, create the password and then, atomically, the cluster.

    Raises EmbeddedPostgresError, OSError or subprocess.SubprocessError.
    """
    if shutil.disk_usage(directory.location).free < MIN_FREE_BYTES:
        raise EmbeddedPostgresError(
            f"Not enough disk space for PostgreSQL in {directory.location}: {MIN_FREE_BYTES >> 20} MB are needed."
        )
    for leftover in directory.location.glob("data.init-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    write_atomically(directory.location / "password", secrets.token_urlsafe(24))
    draft = Path(tempfile.mkdtemp(prefix="data.init-", dir=directory.location))
    owner = directory.identity.uid or 0
    change_owner(draft, owner)
    change_owner(directory.location / "password", owner)
    _initdb(directory, draft)
    draft.rename(directory.data)


def run_server(directory: DataDirectory, port: int, *, replaced_pid: str) -> subprocess.Popen[bytes]:
    """Start the server without waiting for it; return its process.

    `replaced_pid` is the PID that a former server left in postmaster.pid, "" if there is none. Raises OSError.
    """
    change_owner(directory.data, directory.identity.uid or 0)
    settings = [f"-c{name}={value}" for name, value in SETTINGS.items()]
    command = [str(directory.programs / "postgres"), "-D", str(directory.data), "-p", str(port), *settings]
    return _spawn(directory, command, replaced_pid=replaced_pid)


def _initdb(directory: DataDirectory, draft: Path) -> None:
    # Case mapping of all Unicode letters, independent of the system's locales.
    builtin = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    initdb = _spawn(
        directory,
        [str(directory.programs / "initdb"), "--pgdata", str(draft), "--username", DATABASE_NAME, "--encoding=UTF8"]
        + (builtin if _major_version(directory.programs) >= 17 else ["--locale=C.UTF-8"])
        + ["--auth=scram-sha-256", "--pwfile", str(directory.location / "password"), "--data-checksums"],
        output=subprocess.PIPE,
    )
    try:
        output = initdb.communicate(timeout=INITDB_TIMEOUT_S)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        initdb.kill()
        raise
    if initdb.returncode != 0:
        raise EmbeddedPostgresError(f"initdb failed in {directory.location}:\n{output}")


def _spawn(
    directory: DataDirectory, command: list[str], *, output: int | None = None, replaced_pid: str = ""
) -> subprocess.Popen[bytes]:
    """Start a PostgreSQL program as the user of the server, with a minimal environment.

    `replaced_pid` is the PID that a former server has left in postmaster.pid, "" if there is none.
    """
    uid = directory.identity.uid
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "TZ": "UTC",
        "LD_LIBRARY_PATH": f"{directory.programs.parents[1]}.libs",  # needed without /proc
    }
    # PostgreSQL refuses to start if the PID in postmaster.pid exists, even as a zombie or an unrelated process, unless
    # it equals PG_GRANDPARENT_PID. It still checks shared memory for backends that survived a crash.
    return subprocess.Popen(
        [*directory.identity.prefix, *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=directory.location,  # programs of older versions must be able to change back to it
        env=environment | ({"PG_GRANDPARENT_PID": replaced_pid} if replaced_pid else {}),
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
    )


def _major_version(programs: Path) -> int:
    return int(server_version(programs).partition(".")[0])
