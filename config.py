"""Settings from environment variables and files, and generated secrets.

One error lists all invalid settings.
"""

import ipaddress
import os
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from zoneinfo import ZoneInfo

import phonenumbers
from psycopg2 import ProgrammingError
from psycopg2.extensions import make_dsn

ROOT = Path(__file__).parent
MIN_SECRET_LENGTH = 32
"""Minimum length of a secret in characters."""
_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]*))(?::(\d*))?")
"""Matches `[IPv6 address]:port` or `host:port`; the port is optional."""

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::\d{1,5})?")
_NO_IANA_ZONE = re.compile("localtime|posixrules|(?:posix|right)/.*")
"""Matches names that Python accepts as time zones, but PostgreSQL, which formats the times of downloads, does not."""

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


class ConfigError(Exception):
    """One or more settings are invalid. The message contains a line for each of them."""


def setting(default: Any, parse: Callable[[str], Any], description: str, *, shown: str | None = None) -> Any:
    """Define a setting. `shown`, if not None, replaces `default` in the documentation.

    `parse` converts the text of the variable, or raises ValueError.
    """
    if shown is None:
        shown = str(default or "")
    return field(default=default, metadata={"parse": parse, "description": description, "shown": shown})


OWN_PARAMETERS = frozenset({
    "client_encoding", "connect_timeout", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval",
    "tcp_user_timeout",
})  # fmt: skip
"""Parameters of libpq that the service sets. A URL must not contain them, because the service would ignore them."""
PRIMARY, STANDBY = {"read-write", "primary"}, {"standby", "prefer-standby"}
"""Accepted values of target_session_attrs in the URL of the primary and of replicas. The service sets it itself."""


def _database_url(value: str) -> str:
    return _sqlalchemy_url(value, PRIMARY)


def _replica_url(value: str) -> str:
    return _sqlalchemy_url(value, STANDBY)


def _sqlalchemy_url(value: str, session_attributes: set[str]) -> str:
    """Validate a database URL; return it for SQLAlchemy. Raises ValueError.

    The driver is psycopg2, and several hosts become query parameters.
    """
    scheme, separator, rest = value.partition("://")
    if scheme not in {"postgres", "postgresql", "postgresql+psycopg2"} or not separator or not rest:
        raise ValueError("must be a PostgreSQL URL: postgresql://user:password@host:5432/database")
    authority, _, path = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    database, _, query = path.partition("?")
    _check_parameters(query, session_attributes)
    if "," in hosts or "%" in hosts:
        options = [_host_options(hosts)] + ([query] if query else [])
        rest = f"{credentials}{at}/{database}?{'&'.join(options)}"
    return f"postgresql+psycopg2://{rest}"


def _check_parameters(query: str, session_attributes: set[str]) -> None:
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in OWN_PARAMETERS or (name == "target_session_attrs" and value not in session_attributes):
            raise ValueError(f"must not set {name}: the service sets it itself")
        try:
            make_dsn(**{name: "1"})
        except ProgrammingError:
            raise ValueError(f"has a parameter that libpq does not know: {name}") from None


def _host_options(hosts: str) -> str:
    """Return hosts as query parameters of SQLAlchemy, with decoded socket directories.

    Raises ValueError.
    """
    if "%" not in hosts and "[" not in hosts:
        return "&".join(f"host={host}" for host in hosts.split(","))
    pairs = [_HOST.fullmatch(host) for host in hosts.split(",")]
    names = ",".join(unquote((pair[1] or pair[2]) if pair else "") for pair in pairs)
    ports = ",".join((pair[3] or "") if pair else "" for pair in pairs)
    if not all(pairs):
        raise ValueError("has an invalid host: write IPv6 addresses in brackets")
    return f"host={quote(names, safe='/,:')}" + (f"&port={ports}" if ports.strip(",") else "")


def _cores() -> int:
    """Return the number of CPU cores that this process may use, within its container's limit, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, ceil(quota)))


def cpu_quota(cgroups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return the number of cores that the cgroups of this process allow; None without a limit.

    See cgroups(7), versions 1 and 2. The limits of parent cgroups apply, too. In a container, the path may be a path of
    the host that does not exist there; then the container's cgroup is the root.
    """
    quotas = []
    for line in _read_text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            root = cgroups / "cpu" if controllers else cgroups
            own = root / path.lstrip("/")
            quotas += [_read_quota(group) for group in (own, *own.parents) if group.is_relative_to(root)]
    return min((quota for quota in quotas if quota), default=None)


def _read_quota(group: Path) -> float | None:
    """Return the number of cores that a cgroup allows; None without a limit or if unknown."""
    text = _read_text(group / "cpu.max")
    text = text or f"{_read_text(group / 'cpu.cfs_quota_us')} {_read_text(group / 'cpu.cfs_period_us')}"
    numbers = [int(part) for part in text.split() if part.isdigit()]
    return numbers[0] / numbers[1] if len(numbers) == 2 else None


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _integer(least: int, most: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
            raise ValueError(f"must be an integer from {least} to {most}")
        return int(value)

    return parse


_POSITIVE = _integer(1, 1_000_000_000)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    if not 0.5 <= seconds <= 60:
        raise ValueError("must be a number of seconds from 0.5 to 60")
    return seconds


def _switch(value: str) -> bool:
    if value not in {"0", "1"}:
        raise ValueError("must be 0 or 1")
    return value == "1"


def _secret(value: str) -> str:
    if len(value) < MIN_SECRET_LENGTH:
        raise ValueError(f"must have at least {MIN_SECRET_LENGTH} characters; generate one with: openssl rand -hex 32")
    if len(set(value)) < 8:
        raise ValueError("is easy to guess; generate one with: openssl rand -hex 32")
    return value


def _secret_list(value: str) -> tuple[str, ...]:
    return tuple(_secret(part.strip()) for part in value.split(",") if part.strip())


def _storage_uri(value: str) -> str:
    scheme, _, rest = value.partition("://")
    with suppress(ValueError):
        urlsplit(value).port  # noqa: B018 - raises if it is not a port number
        if value == "memory://" or (scheme in {"redis", "rediss", "unix", "valkey", "valkeys"} and rest):
            return value
    raise ValueError("must be memory:// or the URL of a Redis, for example redis://127.0.0.1:6379/0")


def parse_time_zone(value: str) -> ZoneInfo:
    """Return an IANA time zone. Raises ValueError."""
    try:
        if not _NO_IANA_ZONE.fullmatch(value):
            return ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        pass
    raise ValueError("must be an IANA time zone, for example Europe/Moscow")


def _region(value: str) -> str:
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("must be a country code of two capital letters, for example RU")
    return value


def _otlp_endpoint(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must be a URL, for example http://localhost:4318")
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter") is None:
        raise ValueError("requires the packages of requirements-otel.txt")
    return value


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return value

    return parse


def _names(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _origins(value: str) -> tuple[str, ...]:
    """Return origins as browsers send them: in lower case, without the default port.

    Raises ValueError.
    """
    origins = tuple(name.lower() for name in _names(value))
    if not all(map(_ORIGIN.fullmatch, origins)):
        raise ValueError("must be origins without a path, for example https://shop.example.org,http://localhost:3000")
    return tuple(origin.removesuffix(":443" if origin.startswith("https:") else ":80") for origin in origins)


def _networks(value: str) -> Networks:
    try:
        return tuple(ipaddress.ip_network(part) for part in _names(value))
    except ValueError:
        raise ValueError("must be addresses or networks, for example 10.0.0.5,192.168.0.0/24") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings. The environment variable of a field is its name in upper case."""

    database_url: str | None = setting(
        None,
        _database_url,
        "URL of PostgreSQL 14 or newer; with several hosts (`host1:5432,host2:5432`) the one that accepts writes "
        "is used. Empty: embedded PostgreSQL in DATA_DIR",
    )
    migrations_database_url: str | None = setting(
        None,
        _database_url,
        "URL of the same database with the role that owns the tables, for `flask db upgrade`; DATABASE_URL can "
        "then use a role that only reads and writes rows (deploy/roles.sql). Empty: DATABASE_URL",
    )
    database_read_url: str | None = setting(
        None,
        _replica_url,
        "URL of one or more replicas for statistics and exports; not used while unavailable or more than 10 s "
        "behind. Empty: none",
    )
    host: str = setting("127.0.0.1", str, "Address to listen on")
    port: int = setting(8000, _integer(1, 65535), "Port to listen on")
    workers: int = setting(
        _cores(),
        _integer(1, 64),
        "Number of worker processes; each uses up to 11 connections to PostgreSQL. Empty: one per CPU core",
        shown="",
    )
    threads: int = setting(24, _integer(12, 64), "Concurrent requests per process")
    data_dir: Path = setting(
        ROOT / "instance",
        Path,
        "Directory of generated secrets, the embedded database and the spool",
        shown="./instance",
    )
    secret_key: str = setting(
        "", _secret, "Key that signs sessions, at least 32 characters. Empty: generated once and kept in DATA_DIR"
    )
    secret_key_fallbacks: tuple[str, ...] = setting(
        (), _secret_list, "Previous values of SECRET_KEY, comma-separated: sessions signed with them stay valid"
    )
    password_secret: str = setting(
        "",
        _secret,
        "Secret from which issued passwords are derived and hashed, at least 32 characters. Empty: generated once and "
        "kept in DATA_DIR",
    )
    password_secret_fallbacks: tuple[str, ...] = setting(
        (), _secret_list, "Previous values of PASSWORD_SECRET, comma-separated: passwords issued with them stay valid"
    )
    password_hash: str = setting(
        "hmac-sha256",
        _one_of("hmac-sha256", "argon2id"),
        "Hash of issued passwords: hmac-sha256 (microseconds) or argon2id (30 ms each, for audits)",
    )
    phone_region: str = setting("RU", _region, "Default country of phone numbers without a country code")
    display_timezone: ZoneInfo = setting(
        ZoneInfo("Europe/Moscow"), parse_time_zone, "Time zone of pages and exported files", shown="Europe/Moscow"
    )
    default_language: str = setting(
        "ru", _one_of("ru", "en"), "Language if the client accepts none of the supported ones"
    )
    api_keys_required: bool = setting(
        False, _switch, "1: requests to /useradd require an API key (`flask api-keys create`)", shown="0"
    )
    trusted_hosts: tuple[str, ...] = setting(
        (),
        _names,
        "Accepted host names, comma-separated; `.example.org` includes subdomains. Empty: localhost, 127.0.0.1, "
        "::1 and HOST; if HOST is 0.0.0.0 or ::, every IP address of the machine",
    )
    trusted_proxies: Networks = setting(
        (),
        _networks,
        "Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted, comma-separated",
    )
    https_only: bool = setting(
        False,
        _switch,
        "1: require HTTPS for sessions (Secure, __Host- cookies, HSTS), even if a proxy forwards plain HTTP",
        shown="0",
    )
    cors_origins: tuple[str, ...] = setting(
        (),
        _origins,
        "Origins whose pages may call /useradd and the JSON statistics (CORS), comma-separated, for example "
        "https://shop.example.org. Empty: none",
    )
    ratelimit_enabled: bool = setting(
        True, _switch, "0: disable all rate limits, including those against password guessing", shown="1"
    )
    ratelimit_storage_uri: str = setting(
        "memory://",
        _storage_uri,
        "Storage of rate limit counters: per process (memory://) or shared in Redis or Valkey (redis://host:6379/0)",
    )
    ratelimit_per_client: int = setting(
        600, _POSITIVE, "Requests to /useradd per minute and client: an IP address or an API key"
    )
    ratelimit_global: int = setting(30_000, _POSITIVE, "Requests to /useradd per minute from all clients")
    ratelimit_conflicts: int = setting(
        60, _POSITIVE, "409 responses per minute and client, which reveal taken identifiers; further requests get 429"
    )
    attempts_keep_days: int = setting(
        365, _integer(0, 36500), "Retention of attempts and of the audit log in days; 0: forever"
    )
    metrics_allow: Networks = setting(
        _networks("127.0.0.0/8,::1"),
        _networks,
        "Addresses or networks that may read /metrics, comma-separated",
        shown="127.0.0.0/8,::1",
    )
    otel_exporter_otlp_endpoint: str = setting(
        "",
        _otlp_endpoint,
        "Endpoint for OpenTelemetry traces (OTLP over HTTP), for example http://localhost:4318; requires "
        "requirements-otel.txt. Empty: tracing is off",
    )
    log_format: str = setting(
        "auto",
        _one_of("auto", "json", "text"),
        "Format of the log: json (one object per line), text (one line per request), or auto: text on a terminal",
    )
    request_deadline_s: float = setting(
        3.0, _seconds, "Seconds after which a request that waits for PostgreSQL is answered anyway", shown="3"
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Config":
        """Read the settings; generate and store missing secrets. Raises ConfigError.

        `environment` defaults to os.environ. If NAME is not set or empty, the value is read from the file that
        NAME_FILE names, as is usual for secrets in containers.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        problems = []
        for name, metadata in settings().items():
            try:
                text = _read_value(environment, name.upper())
                if text:
                    values[name] = metadata["parse"](text)
            except ValueError as error:
                problems.append(f"{name.upper()}: {error}")
        if problems:
            raise ConfigError("\n".join(problems))
        return cls(**values).with_secrets()

    def with_secrets(self) -> "Config":
        """Return a copy with missing secrets read from DATA_DIR, or generated and stored there.

        Raises ConfigError.
        """
        return replace(
            self,
            secret_key=self.secret_key or _stored_secret(self.data_dir / "secret_key"),
            password_secret=self.password_secret or _stored_secret(self.data_dir / "password_secret"),
        )

    @property
    def allowed_hosts(self) -> list[str]:
        """Accepted values of the Host header, without port."""
        own = f"[{self.host}]" if ":" in self.host else self.host
        return list(self.trusted_hosts) or ["localhost", "127.0.0.1", "::1", own]


@cache
def settings() -> dict[str, Mapping[str, Any]]:
    """Return the metadata of each setting by name: parser, description, documented default."""
    return {entry.name: entry.metadata for entry in fields(Config)}


def _read_value(environment: Mapping[str, str], name: str) -> str:
    """Return the text of a setting, or "". Raises ValueError if its file cannot be read."""
    text, path = (environment.get(key, "").strip() for key in (name, f"{name}_FILE"))
    if text or not path:
        return text
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"{name}_FILE names a file that cannot be read: {path}") from None


def _stored_secret(path: Path) -> str:
    """Return the secret in a file; create a missing file, which only its owner can read.

    Raises ConfigError.
    """
    try:
        if not path.exists():  # first: even mkdir() of an existing directory waits for a frozen disk
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _create_secret(path)
        return _secret(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise ConfigError(f"DATA_DIR: {path} cannot be used: {error}") from None


def _create_secret(path: Path) -> None:
    """Create a file with a new secret atomically: concurrent starts read the same secret."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()
