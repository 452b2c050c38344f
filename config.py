"""Every setting, from the environment. A bad value stops the start with one message that names every bad one."""

import ipaddress
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import phonenumbers

ROOT = Path(__file__).parent
MIN_SECRET_LENGTH = 32

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


class ConfigError(Exception):
    """One or more settings are unusable; the message has a line for each."""


def setting(default: Any, parse: Callable[[str], Any], meaning: str, *, shown: str | None = None) -> Any:
    """Describe one setting: what it is when the environment is silent, how it is read, what it means."""
    return field(
        default=default,
        metadata={"parse": parse, "meaning": meaning, "shown": str(default) if shown is None else shown},
    )


def _text(value: str) -> str:
    return value


def _database_url(value: str) -> str:
    """SQLAlchemy 2.1 reads plain `postgresql://` as psycopg 3, and several hosts only from the query."""
    scheme, separator, rest = value.partition("://")
    if scheme not in {"postgres", "postgresql", "postgresql+psycopg2"} or not separator or not rest:
        raise ValueError("a PostgreSQL address is needed: postgresql://user:password@host:5432/database")
    authority, _, path = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    if "," in hosts:
        database, _, query = path.partition("?")
        options = [f"host={host}" for host in hosts.split(",")] + ([query] if query else [])
        rest = f"{credentials}{at}/{database}?{'&'.join(options)}"
    return f"postgresql+psycopg2://{rest}"


def _cores() -> int:
    """Return how many cores this process may use: a container often has fewer than its machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _port(value: str) -> int:
    return _number(value, 1, 65535)


def _threads(value: str) -> int:
    return _number(value, 12, 64)


def _workers(value: str) -> int:
    return _number(value, 1, 64)


def _days(value: str) -> int:
    return _number(value, 0, 36500)


def _count(value: str) -> int:
    return _number(value, 1, 1_000_000_000)


def _number(value: str, least: int, most: int) -> int:
    if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
        raise ValueError(f"a whole number from {least} to {most} is needed")
    return int(value)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    if not 0.5 <= seconds <= 60:
        raise ValueError("a number of seconds from 0.5 to 60 is needed")
    return seconds


def _switch(value: str) -> bool:
    if value not in {"0", "1"}:
        raise ValueError("0 or 1 is needed")
    return value == "1"


def _secret(value: str) -> str:
    if len(value) < MIN_SECRET_LENGTH:
        raise ValueError(f"at least {MIN_SECRET_LENGTH} characters are needed; make one with: openssl rand -hex 32")
    if len(set(value)) < 8:
        raise ValueError("it can be guessed; make one with: openssl rand -hex 32")
    return value


def _secret_list(value: str) -> tuple[str, ...]:
    return tuple(_secret(part.strip()) for part in value.split(",") if part.strip())


def _storage_uri(value: str) -> str:
    scheme, _, rest = value.partition("://")
    with suppress(ValueError):
        urlsplit(value).port  # noqa: B018 - raises when it is no number
        if value == "memory://" or (scheme in {"redis", "rediss", "unix", "valkey", "valkeys"} and rest):
            return value
    raise ValueError("memory:// or the address of a Redis is needed, for example redis://127.0.0.1:6379/0")


def _zone(value: str) -> ZoneInfo:
    try:
        return ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError("a zone of the IANA list is needed, for example Europe/Moscow") from None


def _region(value: str) -> str:
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("a country code of two capital letters is needed, for example RU")
    return value


def _otlp_endpoint(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("an address is needed, for example http://localhost:4318")
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter") is None:
        raise ValueError("for traces install what requirements-otel.txt pins")
    return value


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"one of {', '.join(allowed)} is needed")
        return value

    return parse


def _names(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _networks(value: str) -> Networks:
    try:
        return tuple(ipaddress.ip_network(part) for part in _names(value))
    except ValueError:
        raise ValueError("addresses or networks are needed, for example 10.0.0.5,192.168.0.0/24") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings. Names in the environment are the names of the fields in capitals."""

    database_url: str | None = setting(
        None,
        _database_url,
        "PostgreSQL to use, 14 or newer; of several hosts (`host1:5432,host2:5432`) the first that takes writes. "
        "Empty: the embedded one, kept in DATA_DIR",
        shown="",
    )
    migrations_database_url: str | None = setting(
        None,
        _database_url,
        "The same database by the role that owns the tables, for `flask db upgrade`: DATABASE_URL can then name one "
        "that only reads and writes rows (deploy/roles.sql). Empty: DATABASE_URL",
        shown="",
    )
    database_read_url: str | None = setting(
        None,
        _database_url,
        "A replica of it for statistics and files, or several; passed over while it is away or more than 10 s behind. "
        "Empty: none",
        shown="",
    )
    host: str = setting("127.0.0.1", _text, "Address to listen on")
    port: int = setting(8000, _port, "Port to listen on")
    workers: int = setting(
        _cores(),
        _workers,
        "Processes that serve behind one port; each takes up to 9 connections to PostgreSQL. Empty: one a core",
        shown="",
    )
    threads: int = setting(24, _threads, "Requests that each process works on at the same time")
    data_dir: Path = setting(
        ROOT / "instance",
        Path,
        "Generated secrets, the embedded database, and the spool: what PostgreSQL could not take yet",
        shown="./instance",
    )
    secret_key: str = setting(
        "", _secret, "Signs sessions, at least 32 characters. Empty: made once, kept in DATA_DIR", shown=""
    )
    secret_key_fallbacks: tuple[str, ...] = setting(
        (), _secret_list, "Former SECRET_KEYs, comma-separated: their sessions live on", shown=""
    )
    password_secret: str = setting(
        "",
        _secret,
        "Derives and hashes issued passwords, at least 32 characters. Empty: made once, kept in DATA_DIR",
        shown="",
    )
    password_secret_fallbacks: tuple[str, ...] = setting(
        (),
        _secret_list,
        "Former PASSWORD_SECRETs, comma-separated: passwords made with them still open",
        shown="",
    )
    password_hash: str = setting(
        "hmac-sha256",
        _choice("hmac-sha256", "argon2id"),
        "How issued passwords are kept: hmac-sha256 (microseconds) or argon2id (30 ms each, for auditors)",
    )
    phone_region: str = setting("RU", _region, "Country of phone numbers written without one")
    display_timezone: ZoneInfo = setting(
        ZoneInfo("Europe/Moscow"), _zone, "Time zone of pages and files", shown="Europe/Moscow"
    )
    default_language: str = setting("ru", _choice("ru", "en"), "Language for those who ask for none that we speak")
    api_keys_required: bool = setting(
        False, _switch, "1: only programs with an API key may create users (`flask api-keys create`)", shown="0"
    )
    trusted_hosts: tuple[str, ...] = setting(
        (),
        _names,
        "Host names that requests may use, comma-separated, `.example.org` for all below it. "
        "Empty: this machine's own (localhost, 127.0.0.1) and HOST",
        shown="",
    )
    trusted_proxies: Networks = setting(
        (),
        _networks,
        "Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, addresses or networks, comma-separated",
        shown="",
    )
    https_only: bool = setting(
        False,
        _switch,
        "1: sessions only over https (Secure, __Host- cookies, HSTS), whatever scheme the service itself sees",
        shown="0",
    )
    ratelimit_enabled: bool = setting(
        True, _switch, "0: nobody is refused for asking too often, wrong passwords included", shown="1"
    )
    ratelimit_storage_uri: str = setting(
        "memory://",
        _storage_uri,
        "Where requests are counted for the limits: in each process for itself (memory://), "
        "or for all of them in Redis or Valkey (redis://host:6379/0)",
    )
    ratelimit_per_client: int = setting(
        600, _count, "Requests to /useradd in a minute from one client: an address, or a program with an API key"
    )
    ratelimit_global: int = setting(30_000, _count, "Requests to /useradd in a minute from all clients together")
    ratelimit_conflicts: int = setting(
        60,
        _count,
        "Answers in a minute that tell one client what is taken already (409); after these it has to wait",
    )
    attempts_keep_days: int = setting(365, _days, "Days for which attempts are kept; 0: for ever")
    metrics_allow: Networks = setting(
        _networks("127.0.0.0/8,::1"),
        _networks,
        "Addresses or networks, comma-separated, from which Prometheus may read /metrics",
        shown="127.0.0.0/8,::1",
    )
    otel_exporter_otlp_endpoint: str = setting(
        "",
        _otlp_endpoint,
        "Where traces go (OpenTelemetry, OTLP over HTTP), for example http://localhost:4318; "
        "needs what requirements-otel.txt pins. Empty: no traces",
        shown="",
    )
    log_format: str = setting("json", _choice("json", "text"), "One JSON object a line, or text for people")
    request_deadline_s: float = setting(
        3.0, _seconds, "Seconds until a request that waits for PostgreSQL is answered all the same", shown="3"
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Config":
        """Read the settings; raise ConfigError that names every bad one. Missing secrets are made and kept.

        What NAME does not say may stand in the file that NAME_FILE names: containers hand out secrets that way.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        problems = []
        for name, description in settings().items():
            try:
                text = _given(environment, name.upper())
                if text:
                    values[name] = description["parse"](text)
            except ValueError as error:
                problems.append(f"{name.upper()}: {error}")
        if problems:
            raise ConfigError("\n".join(problems))
        return cls(**values).with_secrets()

    def with_secrets(self) -> "Config":
        """Return these settings with secrets: those given, else those of DATA_DIR, else new ones."""
        return replace(
            self,
            secret_key=self.secret_key or _kept_secret(self.data_dir / "secret_key"),
            password_secret=self.password_secret or _kept_secret(self.data_dir / "password_secret"),
        )

    @property
    def allowed_hosts(self) -> list[str]:
        """Host names that requests may use. An IPv6 address cannot be one: Werkzeug cuts names at their first colon."""
        own = f"[{self.host}]" if ":" in self.host else self.host  # IPv6 stands in brackets in an address
        return list(self.trusted_hosts) or ["localhost", "127.0.0.1", own]


@cache
def settings() -> dict[str, Mapping[str, Any]]:
    """Return the description of every setting by field name: documents are made from it."""
    return {entry.name: entry.metadata for entry in fields(Config)}


def _given(environment: Mapping[str, str], name: str) -> str:
    """Return what the environment says about a setting; raise ValueError when its file cannot be read."""
    text, path = (environment.get(key, "").strip() for key in (name, f"{name}_FILE"))
    if text or not path:
        return text
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"{name}_FILE names a file that cannot be read: {path}") from None


def _kept_secret(path: Path) -> str:
    """Return the secret kept at `path`; make it first if there is none. Readable by its owner only."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _make_secret(path)
        return _secret(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise ConfigError(f"DATA_DIR: {path} cannot be used: {error}") from None


def _make_secret(path: Path) -> None:
    """Write a secret whole and name it in one step: of two starts at once one wins, and both read the same."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()
