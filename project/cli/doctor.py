"""The command `flask doctor`, which checks the environment of the service."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextvars import copy_context
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import click
from flask.cli import with_appcontext

from config import Config
from project.cli.findings import Finding
from project.cli.help_texts import N_, help_text
from project.cli.server_checks import check_server
from project.cli.startup import check_access, check_encoding, check_secrets, check_tables, known_revisions
from project.database import QueryError
from project.disk import call_with_timeout
from project.domain.errors import DatabaseUnavailableError
from project.domain.rate_limits import Hit, RateLimit
from project.http.translations import gettext
from project.queries.maintenance import ServerInfo, find_server
from project.runtime import get_runtime
from project.spool import read_status

MIN_SERVER_VERSION = 140_000
MAX_CLOCK_DIFFERENCE_S = 2
MIN_FREE_BYTES = 500 * 1024 * 1024
DISK_TIMEOUT_S = 3.0
"""Timeout in seconds of the checks of DATA_DIR, which hang if its disk does not respond."""
MAX_SPOOL_AGE_S = 60
"""Maximum age in seconds of spooled attempts. A running service drains them within 2 s after PostgreSQL is available
again, so older attempts need action."""
EPHEMERAL_FILE_SYSTEMS = {"tmpfs", "ramfs", "overlay"}
"""Types of file systems that lose their content when the machine or container stops."""
LOCAL_HOSTS = {"127.0.0.1", "::1", "localhost"}


@click.command(
    "doctor",
    help=help_text(
        N_("Check database, disk, secrets, clock and settings: each line is OK or says what to do."),
        N_("Works without PostgreSQL, too, and changes nothing. Exit status 1 if there is anything to do."),
        examples=("flask doctor", "./run flask doctor"),
    ),
)
@with_appcontext
def doctor() -> None:
    """Check database, disk, secrets, clock and settings."""
    runtime = get_runtime()
    findings = [
        *_check_database(),
        *_check_files(runtime.config.data_dir, runtime.spool.root),
        *_check_settings(runtime.config),
    ]
    states = {False: gettext("OK"), True: gettext("TO DO")}
    width, indent = max(len(finding.subject) for finding in findings), max(map(len, states.values()))
    for finding in findings:
        state = states[bool(finding.remedy)]
        click.echo(f"{state:{indent}}  {finding.subject:{width}}  {finding.description}")
        if finding.remedy:
            click.echo(f"{'':{indent + 2 + width}}  -> {finding.remedy}")
    if any(finding.remedy for finding in findings):
        raise click.exceptions.Exit(1)


def _check_database() -> Iterator[Finding]:
    asked_at = datetime.now(UTC)
    try:
        server = get_runtime().database.run_once(find_server)
    except DatabaseUnavailableError as error:
        remedy = gettext("start it, or correct DATABASE_URL; one of several hosts must accept writes")
        cause = error.cause or gettext("it does not answer")
        text = gettext("PostgreSQL is unavailable, checks that need it are skipped: %(cause)s", cause=cause)
        yield Finding(gettext("database"), text, remedy)
        return
    except QueryError as error:
        text = gettext("PostgreSQL rejects the check (%(cause)s)", cause=error)
        yield Finding(gettext("database"), text, gettext("read its log"))
        return
    # PostgreSQL has read its clock about halfway between the question and the answer.
    read_at = asked_at + (datetime.now(UTC) - asked_at) / 2
    yield _check_version(server)
    yield _check_hosts(server)
    yield check_encoding(server)
    yield check_tables(server, known_revisions())
    yield _check_migrations(server)
    yield _check_privileges(server)
    yield check_secrets(get_runtime(), server)
    yield _check_clock((server.now - read_at).total_seconds())
    yield from check_server()


def _check_version(server: ServerInfo) -> Finding:
    remedy = "" if server.version_number >= MIN_SERVER_VERSION else gettext("upgrade to PostgreSQL 14 or newer")
    return Finding(gettext("database"), f"PostgreSQL {server.version}", remedy)


def _check_hosts(server: ServerInfo) -> Finding:
    query = parse_qs(urlsplit(get_runtime().config.database_url or "").query)
    count = sum(hosts.count(",") + 1 for hosts in query.get("host", [""]))
    subject = gettext("writes")
    if server.is_writable:
        return Finding(subject, gettext("accepted; number of hosts: %(count)s", count=count))
    description = gettext("refused: read-only; number of hosts: %(count)s", count=count)
    return Finding(subject, description, gettext("promote it, or set DATABASE_URL to the primary"))


def _check_migrations(server: ServerInfo) -> Finding:
    if server.revision is None and not server.may_write:
        return Finding(gettext("migrations"), gettext("not checked: no privilege"))
    latest = max(known_revisions())
    if server.revision == latest:
        text = gettext("at %(revision)s, the latest", revision=server.revision)
        return Finding(gettext("migrations"), text)
    revision = server.revision or gettext("none")
    description = gettext("at %(revision)s, latest is %(latest)s", revision=revision, latest=latest)
    return Finding(gettext("migrations"), description, gettext("run: %(command)s", command="flask db upgrade"))


def _check_privileges(server: ServerInfo) -> Finding:
    """Check that the role may read and write rows, but may not change or drop tables."""
    if not server.may_write:
        return check_access(server)
    if not (server.may_create or server.may_alter):
        text = gettext("role %(role)s can read and write rows, but not change tables", role=server.role)
        return Finding(gettext("privileges"), text)
    if get_runtime().config.database_url is None:
        text = gettext("role %(role)s can change tables, as usual for the embedded database", role=server.role)
        return Finding(gettext("privileges"), text)
    remedy = gettext(
        "run deploy/roles.sql; use useradd_app in DATABASE_URL and useradd_owner in MIGRATIONS_DATABASE_URL"
    )
    text = gettext("role %(role)s can change and drop tables", role=server.role)
    return Finding(gettext("privileges"), text, remedy)


def _check_clock(difference: float) -> Finding:
    seconds = f"{abs(difference):.1f}"
    description = gettext("%(seconds)s s ahead of PostgreSQL", seconds=seconds)
    if difference > 0:
        description = gettext("%(seconds)s s behind PostgreSQL", seconds=seconds)
    remedy = gettext("synchronize the clocks of both machines by NTP")
    return Finding(gettext("clock"), description, remedy if abs(difference) > MAX_CLOCK_DIFFERENCE_S else "")


def _check_files(folder: Path, spool: Path) -> list[Finding]:
    """Check DATA_DIR; give up after DISK_TIMEOUT_S, because its disk may be frozen."""
    try:
        # The checks run in another thread, which needs this context for the language.
        check = partial(
            copy_context().run, lambda: [*_check_secret_files(folder), *_check_disk(folder), *_check_spool(spool)]
        )
        return call_with_timeout(check, DISK_TIMEOUT_S)
    except TimeoutError:
        remedy = gettext(
            "end its snapshot, or check its disk or network: until then attempts that fail are in the log only"
        )
        return [Finding("DATA_DIR", gettext("%(folder)s does not respond", folder=folder), remedy)]


def _check_secret_files(folder: Path) -> Iterator[Finding]:
    """Check the file modes of secrets. Their length was checked when the application started."""
    paths = (folder / "secret_key", folder / "password_secret", folder / "spool")
    is_shared = _has_own_group(folder)
    forbidden = {folder: 0o002 if is_shared else 0o077} | dict.fromkeys(paths, 0o007 if is_shared else 0o077)
    exposed = [str(path) for path, bits in forbidden.items() if path.exists() and path.stat().st_mode & bits]
    if exposed:
        text = gettext("other users can read %(files)s", files=", ".join(exposed))
        remedy = gettext("run: %(command)s", command=f"chmod go-rwx {' '.join(exposed)}")
        yield Finding(gettext("secrets"), text, remedy)
    else:
        yield Finding(gettext("secrets"), gettext("long enough, and DATA_DIR is readable by its owner only"))


def _has_own_group(folder: Path) -> bool:
    """Return whether the folder looks like a Kubernetes volume with an fsGroup.

    Only the pod is in this group, and new files inherit it (setgid), so that group access is harmless.
    """
    status = folder.stat() if folder.exists() else None
    return status is not None and bool(status.st_mode & stat.S_ISGID) and status.st_gid in os.getgroups()


def _check_disk(folder: Path) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"doctor")
            os.fsync(file.fileno())
    except OSError as error:
        remedy = gettext("make it writable for the user of the service, and check its disk")
        text = gettext("%(folder)s is not writable: %(cause)s", folder=folder, cause=error.strerror)
        yield Finding("DATA_DIR", text, remedy)
        return
    free = shutil.disk_usage(folder).free
    remedy = gettext("free disk space: attempts are spooled here during outages") if free < MIN_FREE_BYTES else ""
    text = gettext("%(folder)s is writable, %(size)s GB free", folder=folder, size=f"{free / 1e9:.1f}")
    yield Finding("DATA_DIR", text, remedy)
    kind = file_system_type(folder, _read_mounts())
    remedy = gettext("move DATA_DIR to a persistent disk or volume: secrets and spool would be lost")
    yield Finding(gettext("file system"), kind or gettext("unknown"), remedy if kind in EPHEMERAL_FILE_SYSTEMS else "")


def _read_mounts() -> str:
    mounts = Path("/proc/self/mounts")
    return mounts.read_text() if mounts.exists() else ""


def file_system_type(folder: Path, mounts: str) -> str | None:
    """Return the file system type of a folder, or None if no mount contains it.

    `mounts` is in the format of fstab(5).
    """
    found, longest = None, -1
    for line in mounts.splitlines():
        _, mount_point, kind, *_ = line.split(" ")
        mount_point = mount_point.replace("\\040", " ")
        if folder.resolve().is_relative_to(mount_point) and len(mount_point) >= longest:
            found, longest = kind, len(mount_point)
    return found


def _check_spool(folder: Path) -> Iterator[Finding]:
    status = read_status(folder)
    age = 0 if status.oldest is None else max(0, round(time.time() - status.oldest))
    description = gettext("attempts spooled: %(count)s", count=status.records)
    if status.records:
        description += ", " + gettext("the oldest for %(age)s s", age=age)
    remedy = gettext("if PostgreSQL is available and no service runs: flask spool drain")
    yield Finding(gettext("spool"), description, remedy if status.records and age > MAX_SPOOL_AGE_S else "")
    remedy = gettext("inspect %(files)s", files=f"{folder}/*/quarantine.log") if status.quarantined else ""
    yield Finding(gettext("quarantine"), gettext("lines: %(count)s", count=status.quarantined), remedy)


def _check_settings(config: Config) -> Iterator[Finding]:
    now = datetime.now(config.display_timezone)
    text = gettext("%(zone)s, now %(time)s", zone=config.display_timezone, time=f"{now:%H:%M}")
    yield Finding(gettext("time zone"), text)
    yield _check_proxies(config)
    yield _check_host_names(config)
    yield _check_rate_limits(config)
    yield _check_metrics(config)


def _check_proxies(config: Config) -> Finding:
    proxies, remedy = ", ".join(map(str, config.trusted_proxies)), ""
    if config.https_only and not proxies:
        remedy = gettext("set TRUSTED_PROXIES to the proxy that terminates HTTPS: else all clients share its address")
    elif proxies and not config.https_only:
        remedy = gettext("set HTTPS_ONLY=1 if the proxy terminates HTTPS, as it should")
    return Finding(gettext("proxies"), f"TRUSTED_PROXIES={proxies}, HTTPS_ONLY={int(config.https_only)}", remedy)


def _check_host_names(config: Config) -> Finding:
    is_public = bool(config.trusted_proxies or config.https_only or config.host not in LOCAL_HOSTS)
    remedy = gettext("set TRUSTED_HOSTS to the public host names") if is_public and not config.trusted_hosts else ""
    return Finding(gettext("host names"), ", ".join(dict.fromkeys(config.allowed_hosts)), remedy)


def _check_rate_limits(config: Config) -> Finding:
    if not config.ratelimit_enabled:
        remedy = gettext("set RATELIMIT_ENABLED=1, against password guessing and floods")
        return Finding(gettext("rate limits"), gettext("disabled"), remedy)
    limits = {"client": config.ratelimit_per_client, "total": config.ratelimit_global}
    description = gettext("%(client)s per minute and client, %(total)s in total", **limits)
    if config.ratelimit_storage_uri == "memory://":
        if config.workers > 1:
            factor = gettext("up to %(factor)s times that, as each process counts separately", factor=config.workers)
            description += f", {factor}"
        return Finding(gettext("rate limits"), description)
    runtime = get_runtime()
    runtime.rate_limiter.record(Hit(RateLimit("doctor", 1, 1), "doctor"))
    remedy = gettext("start Redis, or correct RATELIMIT_STORAGE_URI: until then each process counts separately")
    description += ", " + gettext("counted in Redis")
    return Finding(gettext("rate limits"), description, remedy if runtime.rate_limiter.is_redis_unavailable else "")


def _check_metrics(config: Config) -> Finding:
    is_public = any(network.is_global or network.prefixlen == 0 for network in config.metrics_allow)
    remedy = gettext("restrict METRICS_ALLOW to Prometheus: anyone on the internet can read /metrics")
    text = gettext("/metrics allows %(networks)s", networks=", ".join(map(str, config.metrics_allow)))
    return Finding(gettext("metrics"), text, remedy if is_public else "")
