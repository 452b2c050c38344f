"""The cluster: how it is made, and how the server runs on it."""

import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from .place import HOST, NAME, EmbeddedPostgresError, Place, hand_over, version, write

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


def refuse_other_major(place: Place) -> None:
    """Refuse data that these programs cannot read."""
    made_by = (place.data / "PG_VERSION").read_text().strip()
    if int(made_by) != _major(place.programs):
        raise EmbeddedPostgresError(
            f"The data in {place.data} was made by PostgreSQL {made_by}, the programs in {place.programs} are "
            f"PostgreSQL {version(place.programs)}. Use another directory, or move the data "
            "with pg_dump and pg_restore."
        )


def initialise(place: Place) -> None:
    """Make the cluster and its password; half made, it is never taken for one."""
    if shutil.disk_usage(place.home).free < ROOM_NEEDED:
        raise EmbeddedPostgresError(f"No room for a PostgreSQL in {place.home}: it needs {ROOM_NEEDED >> 20} MB.")
    for leftover in place.home.glob("data.init-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    write(place.home / "password", secrets.token_urlsafe(24))
    draft = Path(tempfile.mkdtemp(prefix="data.init-", dir=place.home))
    owner = place.identity.uid or 0
    hand_over(draft, owner)
    hand_over(place.home / "password", owner)
    _initdb(place, draft)
    draft.rename(place.data)


def run_server(place: Place, port: int, *, replaces: str) -> subprocess.Popen[bytes]:
    """Start the server; `replaces` is the pid that an earlier one left in its lock file."""
    hand_over(place.data, place.identity.uid or 0)
    settings = [f"-c{name}={value}" for name, value in SETTINGS.items()]
    command = [str(place.programs / "postgres"), "-D", str(place.data), "-p", str(port), *settings]
    return _spawn(place, command, replaces=replaces)


def _initdb(place: Place, draft: Path) -> None:
    # Upper and lower case of all letters, the same everywhere, without the locales of the system.
    builtin = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    initdb = _spawn(
        place,
        [str(place.programs / "initdb"), "--pgdata", str(draft), "--username", NAME, "--encoding=UTF8"]
        + (builtin if _major(place.programs) >= 17 else ["--locale=C.UTF-8"])
        + ["--auth=scram-sha-256", "--pwfile", str(place.home / "password"), "--data-checksums"],
        output=subprocess.PIPE,
    )
    said = initdb.communicate()[0].decode(errors="replace")
    if initdb.returncode != 0:
        raise EmbeddedPostgresError(f"initdb failed in {place.home}:\n{said}")


def _spawn(
    place: Place, command: list[str], *, output: int | None = None, replaces: str = ""
) -> subprocess.Popen[bytes]:
    """Run a server program as whom it has to be, with nothing of our environment."""
    uid = place.identity.uid
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "TZ": "UTC",
        "LD_LIBRARY_PATH": f"{place.programs.parents[1]}.libs",  # found without it, too, but not where /proc is missing
    }
    # PostgreSQL does not start while the pid in its lock file exists: a zombie, or by now somebody else. A pid
    # called its grandparent it leaves out of this, and still checks the shared memory for survivors of a crash.
    return subprocess.Popen(
        [*place.identity.prefix, *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=place.home,  # older majors insist on coming back to where they were started
        env=environment | ({"PG_GRANDPARENT_PID": replaces} if replaces else {}),
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
    )


def _major(programs: Path) -> int:
    return int(version(programs).partition(".")[0])
