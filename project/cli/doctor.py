"""The command `flask doctor`, which checks the environment of the service."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import click
from flask.cli import with_appcontext

from config import Config
from project.cli.findings import Finding
from project.cli.server_checks import check_server
from project.cli.startup import check_access, check_encoding, check_secrets, check_tables, known_revisions
from project.database import QueryError
from project.disk import call
from project.domain.errors import DatabaseUnavailableError
from project.domain.rate_limits import Hit, RateLimit
from project.queries.maintenance import Server, find_server
from project.runtime import get_runtime
from project.spool import read_status

MIN_SERVER_VERSION = 140_000
MAX_CLOCK_DIFFERENCE_S = 2
MIN_FREE_BYTES = 500 * 1024 * 1024
DISK_S = 3.0
"""Seconds that the disk of DATA_DIR may take for all checks."""
MAX_SPOOL_AGE_S = 60
"""Age in seconds of spooled attempts above which action is needed: a running service drains them within 2 s after
PostgreSQL is available again."""
EPHEMERAL = {"tmpfs", "ramfs", "overlay"}
"""Types of file systems whose content is lost with the machine or the container."""
LOCAL_HOSTS = {"127.0.0.1", "::1", "localhost"}


@click.command("doctor")
@with_appcontext
def doctor() -> None:
    """Check database, disk, secrets, clock and settings: each line is OK or says what to do.

    Works while PostgreSQL is unavailable, too. Exit status 1 if there is anything to do.

    \b
    Examples:
      flask doctor
      ./run flask doctor
    """
    runtime = get_runtime()
    findings = [*_database(), *_files(runtime.config.data_dir, runtime.spool.root), *_settings(runtime.config)]
    width = max(len(one.subject) for one in findings)
    for one in findings:
        click.echo(f"{'TO DO' if one.remedy else 'OK   '}  {one.subject:{width}}  {one.description}")
        if one.remedy:
            click.echo(f"{'':{width + 7}}  -> {one.remedy}")
    if any(one.remedy for one in findings):
        raise click.exceptions.Exit(1)


def _database() -> Iterator[Finding]:
    sent = datetime.now(UTC)
    try:
        server = get_runtime().database.run_once(find_server)
    except DatabaseUnavailableError as error:
        remedy = "start it, or correct DATABASE_URL; one of several hosts must accept writes"
        cause = error.cause or "it does not answer"
        yield Finding("database", f"PostgreSQL is unavailable, checks that need it are skipped: {cause}", remedy)
        return
    except QueryError as error:
        yield Finding("database", f"PostgreSQL rejects the check ({error})", "read its log")
        return
    middle = sent + (datetime.now(UTC) - sent) / 2
    yield _version(server)
    yield _hosts(server)
    yield check_encoding(server)
    yield check_tables(server, known_revisions())
    yield _migrations(server)
    yield _privileges(server)
    yield check_secrets(get_runtime(), server)
    yield _clock((server.now - middle).total_seconds())
    yield from check_server()


def _version(server: Server) -> Finding:
    remedy = "" if server.number >= MIN_SERVER_VERSION else "upgrade to PostgreSQL 14 or newer"
    return Finding("database", f"PostgreSQL {server.version}", remedy)


def _hosts(server: Server) -> Finding:
    query = parse_qs(urlsplit(get_runtime().config.database_url or "").query)
    count = sum(hosts.count(",") + 1 for hosts in query.get("host", [""]))
    description = "one host" if count == 1 else f"one of {count} hosts"
    if server.is_writable:
        return Finding("writes", f"{description} accepts writes")
    return Finding("writes", f"{description} is read-only", "promote it, or set DATABASE_URL to the primary")


def _migrations(server: Server) -> Finding:
    latest = max(known_revisions())
    if server.revision == latest:
        return Finding("migrations", f"at {server.revision}, the latest")
    description = f"at {server.revision or 'none'}, latest is {latest}"
    return Finding("migrations", description, "run: flask db upgrade")


def _privileges(server: Server) -> Finding:
    """Check that the role may read and write rows, but may not change or drop tables."""
    if not server.may_write:
        return check_access(server)
    if not (server.may_create or server.may_alter):
        return Finding("privileges", f"role {server.role} can read and write rows, but not change tables")
    description = f"role {server.role} can change and drop tables"
    if get_runtime().config.database_url is None:
        return Finding("privileges", f"{description}, as usual for the embedded database")
    remedy = "run deploy/roles.sql; use useradd_app in DATABASE_URL and useradd_owner in MIGRATIONS_DATABASE_URL"
    return Finding("privileges", description, remedy)


def _clock(difference: float) -> Finding:
    description = f"{abs(difference):.1f} s {'behind' if difference > 0 else 'ahead of'} PostgreSQL"
    remedy = "synchronize the clocks of both machines by NTP"
    return Finding("clock", description, remedy if abs(difference) > MAX_CLOCK_DIFFERENCE_S else "")


def _files(folder: Path, spool: Path) -> list[Finding]:
    """Check DATA_DIR, whose disk may be frozen."""
    try:
        return call(lambda: [*_secrets(folder), *_disk(folder), *_spool(spool)], DISK_S)
    except TimeoutError:
        remedy = "end its snapshot, or check its disk or network: until then attempts that fail are in the log only"
        return [Finding("DATA_DIR", f"{folder} does not respond", remedy)]


def _secrets(folder: Path) -> Iterator[Finding]:
    """Check the file modes of secrets. Their length is checked at the start of the service."""
    paths = (folder / "secret_key", folder / "password_secret", folder / "spool")
    is_shared = _has_own_group(folder)
    forbidden = {folder: 0o002 if is_shared else 0o077} | dict.fromkeys(paths, 0o007 if is_shared else 0o077)
    exposed = [str(path) for path, bits in forbidden.items() if path.exists() and path.stat().st_mode & bits]
    if exposed:
        yield Finding("secrets", f"other users can read {', '.join(exposed)}", f"run: chmod go-rwx {' '.join(exposed)}")
    else:
        yield Finding("secrets", "long enough, and DATA_DIR is readable by its owner only")


def _has_own_group(folder: Path) -> bool:
    """Return whether the folder is a volume of Kubernetes with an fsGroup.

    Such a volume belongs to a group of the pod alone and passes it on (setgid); others may list it.
    """
    status = folder.stat() if folder.exists() else None
    return status is not None and bool(status.st_mode & stat.S_ISGID) and status.st_gid in os.getgroups()


def _disk(folder: Path) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"doctor")
            os.fsync(file.fileno())
    except OSError as error:
        remedy = "make it writable for the user of the service, and check its disk"
        yield Finding("DATA_DIR", f"{folder} is not writable: {error.strerror}", remedy)
        return
    free = shutil.disk_usage(folder).free
    remedy = "free disk space: attempts are spooled here during outages" if free < MIN_FREE_BYTES else ""
    yield Finding("DATA_DIR", f"{folder} is writable, {free / 1e9:.1f} GB free", remedy)
    kind = file_system(folder, _mounts())
    remedy = "move DATA_DIR to a persistent disk or volume: secrets and spool would be lost"
    yield Finding("file system", kind or "unknown", remedy if kind in EPHEMERAL else "")


def _mounts() -> str:
    mounts = Path("/proc/self/mounts")
    return mounts.read_text() if mounts.exists() else ""


def file_system(folder: Path, mounts: str) -> str | None:
    """Return the file system type of a folder, or None; `mounts` has the format of fstab(5)."""
    found, longest = None, -1
    for line in mounts.splitlines():
        _, mount_point, kind, *_ = line.split(" ")
        mount_point = mount_point.replace("\\040", " ")
        if folder.resolve().is_relative_to(mount_point) and len(mount_point) >= longest:
            found, longest = kind, len(mount_point)
    return found


def _spool(folder: Path) -> Iterator[Finding]:
    status = read_status(folder)
    age = 0 if status.oldest is None else max(0, round(time.time() - status.oldest))
    description = f"{status.records} attempts spooled" + (f", oldest {age} s ago" if status.records else "")
    remedy = "if PostgreSQL is available and no service runs: flask spool drain"
    yield Finding("spool", description, remedy if status.records and age > MAX_SPOOL_AGE_S else "")
    remedy = f"inspect {folder}/*/quarantine.log" if status.quarantined else ""
    yield Finding("quarantine", f"{status.quarantined} lines", remedy)


def _settings(config: Config) -> Iterator[Finding]:
    now = datetime.now(config.display_timezone)
    yield Finding("time zone", f"{config.display_timezone}, now {now:%H:%M}")
    yield _proxies(config)
    yield _names(config)
    yield _limits(config)
    yield _metrics(config)


def _proxies(config: Config) -> Finding:
    proxies, remedy = ", ".join(map(str, config.trusted_proxies)), ""
    if config.https_only and not proxies:
        remedy = "set TRUSTED_PROXIES to the proxy that terminates HTTPS: else all clients share its address"
    elif proxies and not config.https_only:
        remedy = "set HTTPS_ONLY=1 if the proxy terminates HTTPS, as it should"
    return Finding("proxies", f"TRUSTED_PROXIES={proxies}, HTTPS_ONLY={int(config.https_only)}", remedy)


def _names(config: Config) -> Finding:
    is_public = bool(config.trusted_proxies or config.https_only or config.host not in LOCAL_HOSTS)
    remedy = "set TRUSTED_HOSTS to the public host names" if is_public and not config.trusted_hosts else ""
    return Finding("host names", ", ".join(dict.fromkeys(config.allowed_hosts)), remedy)


def _limits(config: Config) -> Finding:
    if not config.ratelimit_enabled:
        return Finding("rate limits", "disabled", "set RATELIMIT_ENABLED=1, against password guessing and floods")
    description = f"{config.ratelimit_per_client} per minute and client, {config.ratelimit_global} in total"
    if config.ratelimit_storage_uri == "memory://":
        factor = f", up to {config.workers} times that, as each process counts separately" if config.workers > 1 else ""
        return Finding("rate limits", description + factor)
    runtime = get_runtime()
    runtime.rate_limiter.record(Hit(RateLimit("doctor", 1, 1), "doctor"))
    remedy = "start Redis, or correct RATELIMIT_STORAGE_URI: until then each process counts separately"
    description += ", counted in Redis"
    return Finding("rate limits", description, remedy if runtime.rate_limiter.is_unavailable else "")


def _metrics(config: Config) -> Finding:
    is_public = any(network.is_global or network.prefixlen == 0 for network in config.metrics_allow)
    remedy = "restrict METRICS_ALLOW to Prometheus: anyone on the internet can read /metrics" if is_public else ""
    return Finding("metrics", f"/metrics allows {', '.join(map(str, config.metrics_allow))}", remedy)
