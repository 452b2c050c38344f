"""`flask doctor`: what the service stands on, each line OK or what to do."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from alembic.script import ScriptDirectory
from flask import current_app
from flask.cli import with_appcontext

from config import Config
from project.cli.findings import Finding
from project.cli.server_checks import server_activity
from project.database import QueryError
from project.domain.errors import DatabaseUnavailableError
from project.domain.rate_limits import Hit, RateLimit
from project.queries.maintenance import Server, find_server
from project.runtime import get_runtime
from project.spool import read_status

OLDEST_SERVER = 140_000
CLOCK_S = 2
FREE_BYTES = 500 * 1024 * 1024
WAITS_S = 60
"""A running service brings in what waits 2 s after PostgreSQL is back: what has waited longer needs a look."""
PASSING = {"tmpfs", "ramfs", "overlay"}
"""File systems that end with the machine or with the container."""
LOCAL = {"127.0.0.1", "::1", "localhost"}


@click.command("doctor")
@with_appcontext
def doctor() -> None:
    """Look at database, disk, secrets, clock and settings: each line OK, or what to do.

    Works while PostgreSQL is away, too. Exit status 1 if anything needs doing.

    \b
    Examples:
      flask doctor
      ./run flask doctor
    """
    findings = [*_database(), *_secrets(), *_disk(), *_spool(), *_settings(get_runtime().config)]
    width = max(len(one.subject) for one in findings)
    for one in findings:
        click.echo(f"{'TO DO' if one.remedy else 'OK   '}  {one.subject:{width}}  {one.told}")
        if one.remedy:
            click.echo(f"{'':{width + 7}}  -> {one.remedy}")
    if any(one.remedy for one in findings):
        raise click.exceptions.Exit(1)


def _database() -> Iterator[Finding]:
    asked = datetime.now(UTC)
    try:
        server = get_runtime().database.run_once(find_server)
    except DatabaseUnavailableError:
        remedy = "start it, or correct DATABASE_URL; of several hosts one has to take writes"
        yield Finding("database", "PostgreSQL does not answer; what depends on it is not checked", remedy)
        return
    except QueryError as error:
        yield Finding("database", f"PostgreSQL refuses to tell of itself ({error})", "look at its log")
        return
    middle = asked + (datetime.now(UTC) - asked) / 2
    yield _version(server)
    yield _hosts(server)
    yield _migrations(server)
    yield _rights(server)
    yield _clock((server.now - middle).total_seconds())
    yield from server_activity()


def _version(server: Server) -> Finding:
    remedy = "" if server.number >= OLDEST_SERVER else "the service needs PostgreSQL 14 or newer"
    return Finding("database", f"PostgreSQL {server.version}", remedy)


def _hosts(server: Server) -> Finding:
    count = max(1, (get_runtime().config.database_url or "").count("host="))
    told = "one host" if count == 1 else f"one of {count} hosts"
    if server.is_writable:
        return Finding("writes", f"{told} takes writes")
    return Finding("writes", f"{told} answers, but only reads", "promote it, or name the primary in DATABASE_URL")


def _migrations(server: Server) -> Finding:
    heads = ScriptDirectory.from_config(current_app.extensions["migrate"].migrate.get_config()).get_heads()
    if server.revision in heads:
        return Finding("migrations", f"at {server.revision}, the newest")
    remedy = "run: flask db upgrade"
    return Finding("migrations", f"at {server.revision or 'none'}, newest is {', '.join(heads)}", remedy)


def _rights(server: Server) -> Finding:
    """What breaks into the service has its role: that should not be able to drop a table."""
    if not server.may_write:
        told = f"role {server.role} may not read and write all tables"
        return Finding("rights", told, "run deploy/roles.sql: it grants what the service needs")
    if not (server.may_create or server.may_alter):
        return Finding("rights", f"role {server.role} reads and writes rows, and may not change tables")
    told = f"role {server.role} may change and drop tables"
    if get_runtime().config.database_url is None:
        return Finding("rights", f"{told}: it is that of the embedded database")
    remedy = "run deploy/roles.sql; put useradd_app into DATABASE_URL, useradd_owner into MIGRATIONS_DATABASE_URL"
    return Finding("rights", told, remedy)


def _clock(difference: float) -> Finding:
    told = f"{abs(difference):.1f} s {'behind' if difference > 0 else 'ahead of'} that of PostgreSQL"
    return Finding("clock", told, "" if abs(difference) <= CLOCK_S else "let NTP set the clocks of both machines")


def _secrets() -> Iterator[Finding]:
    """Weak secrets do not get this far: the settings refuse them."""
    folder = get_runtime().config.data_dir
    paths = [
        path for path in (folder, folder / "secret_key", folder / "password_secret", folder / "spool") if path.exists()
    ]
    open_to_others = [str(path) for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]
    if open_to_others:
        told = f"others may look into {', '.join(open_to_others)}"
        yield Finding("secrets", told, f"run: chmod go-rwx {' '.join(open_to_others)}")
    else:
        yield Finding("secrets", "long enough, and nobody else can read what is kept in DATA_DIR")


def _disk() -> Iterator[Finding]:
    folder = get_runtime().config.data_dir
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"doctor")
            os.fsync(file.fileno())
    except OSError as error:
        remedy = "give the service's user the folder, on a disk with room"
        yield Finding("DATA_DIR", f"{folder} cannot be written: {error.strerror}", remedy)
        return
    free = shutil.disk_usage(folder).free
    told = f"{folder} can be written, {free / 1e9:.1f} GB free"
    yield Finding("DATA_DIR", told, "" if free >= FREE_BYTES else "make room: outages are survived on this disk")
    kind = file_system(folder, _mounts())
    remedy = "put DATA_DIR on a disk or volume that stays: secrets and spool end with this one"
    yield Finding("its disk", f"{kind or 'unknown'} file system", remedy if kind in PASSING else "")


def _mounts() -> str:
    mounts = Path("/proc/self/mounts")
    return mounts.read_text() if mounts.exists() else ""


def file_system(folder: Path, mounts: str) -> str | None:
    """Return the kind of file system on which a folder lies, by the lines of /proc/self/mounts (fstab(5))."""
    found, longest = None, -1
    for line in mounts.splitlines():
        _, place, kind, *_ = line.split(" ")
        place = place.replace("\\040", " ")
        if folder.resolve().is_relative_to(place) and len(place) >= longest:
            found, longest = kind, len(place)
    return found


def _spool() -> Iterator[Finding]:
    kept = read_status(get_runtime().spool.root)
    age = 0 if kept.oldest is None else max(0, round(time.time() - kept.oldest))
    told = f"{kept.records} attempts wait" + (f", the oldest for {age} s" if kept.records else "")
    remedy = "when PostgreSQL is there and no service runs: flask spool drain" if kept.records and age > WAITS_S else ""
    yield Finding("spool", told, remedy)
    remedy = f"look into {get_runtime().spool.root}/*/quarantine.log" if kept.quarantined else ""
    yield Finding("quarantine", f"{kept.quarantined} lines", remedy)


def _settings(config: Config) -> Iterator[Finding]:
    now = datetime.now(config.display_timezone)
    yield Finding("time zone", f"{config.display_timezone}, where it is {now:%H:%M}")
    yield _proxies(config)
    yield _names(config)
    yield _limits(config)
    yield _metrics(config)


def _proxies(config: Config) -> Finding:
    told = (
        f"TRUSTED_PROXIES {', '.join(map(str, config.trusted_proxies)) or 'empty'}, HTTPS_ONLY={int(config.https_only)}"
    )
    if config.https_only and not config.trusted_proxies:
        remedy = "something in front speaks https: name it in TRUSTED_PROXIES, else every client has its address"
        return Finding("proxies", told, remedy)
    if config.trusted_proxies and not config.https_only:
        return Finding("proxies", told, "set HTTPS_ONLY=1 when the proxy speaks https, as it should")
    return Finding("proxies", told)


def _names(config: Config) -> Finding:
    told = f"answers to {', '.join(dict.fromkeys(config.allowed_hosts))}"
    if not config.trusted_hosts and (config.trusted_proxies or config.https_only or config.host not in LOCAL):
        return Finding("host names", told, "others come by another name: put it in TRUSTED_HOSTS")
    return Finding("host names", told)


def _limits(config: Config) -> Finding:
    if not config.ratelimit_enabled:
        remedy = "RATELIMIT_ENABLED=1: else anybody may fill the database and guess passwords"
        return Finding("limits", "switched off", remedy)
    told = f"{config.ratelimit_per_client} a minute for each client, {config.ratelimit_global} for all"
    if config.ratelimit_storage_uri == "memory://":
        factor = f", up to {config.workers} times that, as each process counts for itself" if config.workers > 1 else ""
        return Finding("limits", told + factor)
    runtime = get_runtime()
    runtime.rate_limiter.record(Hit(RateLimit("doctor", 1, 1), "doctor"))
    remedy = "start it, or correct RATELIMIT_STORAGE_URI: until then each process counts for itself"
    return Finding("limits", f"{told}, counted in Redis", remedy if runtime.rate_limiter.is_unavailable else "")


def _metrics(config: Config) -> Finding:
    told = f"/metrics is open to {', '.join(map(str, config.metrics_allow))}"
    strangers = [network for network in config.metrics_allow if network.is_global or network.prefixlen == 0]
    remedy = "anybody on the internet may read it: name only Prometheus in METRICS_ALLOW" if strangers else ""
    return Finding("metrics", told, remedy)
