"""Settings: read once, all errors reported together, secrets generated once and stored."""

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError
from ipaddress import ip_network
from pathlib import Path

import pytest

from config import Config, ConfigError, _cores, cpu_quota, settings

ROOT = Path(__file__).parents[2]
SECRET = "0123456789abcdef" * 2
BAD = {
    "DATABASE_URL": [
        "mysql://host/useradd",
        "postgresql://",
        "postgresql",
        "postgresql+psycopg://host/useradd",
        "postgresql://[::1,h/d",
    ],
    "PORT": ["0", "65536", "-1", "eighty", "8000.5", "８０００", "²"],
    "WORKERS": ["0", "-1", "65", "many"],
    "DATABASE_READ_URL": ["mysql://replica/useradd", "replica"],
    "THREADS": ["0", "11", "65"],
    "SECRET_KEY": ["dev", "x" * 31, "a" * 40, "secret" * 10],
    "SECRET_KEY_FALLBACKS": [f"{SECRET},dev"],
    "PASSWORD_SECRET": ["dev"],
    "PASSWORD_SECRET_FALLBACKS": ["dev"],
    "PASSWORD_HASH": ["md5", "ARGON2ID"],
    "PHONE_REGION": ["ru", "RUS", "XX"],
    "DISPLAY_TIMEZONE": ["Moscow", "../etc/passwd", "Europe", "+03:00", "localtime", "right/Europe/Moscow"],
    "DEFAULT_LANGUAGE": ["de"],
    "TRUSTED_PROXIES": ["proxy.example.org", "10.0.0.1/8", "10.0.0.0/33"],
    "HTTPS_ONLY": ["yes", "true", "2"],
    "API_KEYS_REQUIRED": ["yes", "true", "2"],
    "MIGRATIONS_DATABASE_URL": ["sqlite:///x.db", "postgresql://"],
    "CORS_ORIGINS": [
        "*",
        "shop.example.org",
        "https://shop.example.org/",
        "https://*.example.org",
        "null",
        "https://a b",
    ],
    "RATELIMIT_ENABLED": ["yes", "true", "2"],
    "RATELIMIT_STORAGE_URI": ["memory", "postgresql://host/d", "redis://", "redis://host:x/0", "redis://host:70000"],
    "RATELIMIT_PER_CLIENT": ["0", "-1", "60/minute"],
    "RATELIMIT_GLOBAL": ["0", "many"],
    "RATELIMIT_CONFLICTS": ["0", "1.5"],
    "ATTEMPTS_KEEP_DAYS": ["-1", "36501", "for ever", "1.5"],
    "METRICS_ALLOW": ["everybody", "10.0.0.1/8"],
    "OTEL_EXPORTER_OTLP_ENDPOINT": ["collector:4318"],
    "LOG_FORMAT": ["xml"],
    "REQUEST_DEADLINE_S": ["0.4", "61", "nan", "inf", "3s"],
}
FREE_TEXT = {"HOST", "DATA_DIR", "TRUSTED_HOSTS"}


def read(tmp_path: Path, **environment: str) -> Config:
    """Return the settings of this environment."""
    return Config.from_environment({"DATA_DIR": str(tmp_path), **environment})


def test_all_bad_values_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, **{name: values[0] for name, values in BAD.items()})

    lines = str(caught.value).splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == sorted(BAD)


def test_every_setting_has_bad_values_unless_it_is_listed_as_free_text() -> None:
    assert BAD.keys() | FREE_TEXT == {name.upper() for name in settings()}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_is_refused_and_named(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: ") as caught:
        read(tmp_path, **{name: value})

    assert len(str(caught.value).splitlines()) == 1


def test_a_setting_can_be_read_from_a_file_but_the_variable_itself_takes_precedence(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{SECRET}\n")

    found = read(tmp_path, SECRET_KEY_FILE=str(tmp_path / "key"), PORT="8001", PORT_FILE=str(tmp_path / "nowhere"))

    assert (found.secret_key, found.port) == (SECRET, 8001)


def test_a_settings_file_that_cannot_be_read_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^SECRET_KEY: SECRET_KEY_FILE names a file that cannot be read: .*nowhere$"):
        read(tmp_path, SECRET_KEY_FILE=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["SECRET_KEY", "PASSWORD_SECRET", "SECRET_KEY_FALLBACKS"])
def test_a_refused_secret_is_not_repeated_in_the_message(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, **{name: "hunter2"})

    assert "hunter2" not in str(caught.value)


@pytest.mark.slow
def test_the_service_does_not_start_on_bad_settings_and_says_why(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path), "SECRET_KEY": "dev", "PORT": "0"}

    result = subprocess.run(
        [sys.executable, ROOT / "wsgi.py"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )

    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == [
        "useradd cannot start",
        "PORT",
        "SECRET_KEY",
    ]


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_postgresql_scheme_uses_the_installed_driver(tmp_path: Path, scheme: str) -> None:
    found = read(tmp_path, DATABASE_URL=f"{scheme}://user:p%40ss@host:5432/useradd?sslmode=require")

    assert found.database_url == "postgresql+psycopg2://user:p%40ss@host:5432/useradd?sslmode=require"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PORT", " 8080 ", 8080),
        ("THREADS", "12", 12),
        ("HTTPS_ONLY", "1", True),
        ("HTTPS_ONLY", "0", False),
        ("API_KEYS_REQUIRED", "1", True),
        ("REQUEST_DEADLINE_S", "0.5", 0.5),
        ("TRUSTED_HOSTS", "a.example.org, .example.net,", ("a.example.org", ".example.net")),
        ("TRUSTED_PROXIES", "10.0.0.5, fd00::/8", (ip_network("10.0.0.5/32"), ip_network("fd00::/8"))),
        ("SECRET_KEY_FALLBACKS", f"{SECRET}, {SECRET}x", (SECRET, SECRET + "x")),
        ("PASSWORD_HASH", "argon2id", "argon2id"),
        ("RATELIMIT_STORAGE_URI", "valkeys://u:p@host:6379/0", "valkeys://u:p@host:6379/0"),
        ("RATELIMIT_STORAGE_URI", "unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("PORT", "   ", 8000),
    ],
)
def test_a_good_value_is_parsed_and_a_blank_one_means_the_default(
    tmp_path: Path, name: str, text: str, value: object
) -> None:
    found = read(tmp_path, **{name: text})

    assert getattr(found, name.lower()) == value


def test_every_setting_has_a_description() -> None:
    for name, description in settings().items():
        assert description["description"], name
        assert isinstance(description["shown"], str), name


def test_settings_are_immutable(tmp_path: Path) -> None:
    found = read(tmp_path)

    with pytest.raises(FrozenInstanceError):
        found.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("environment", "hosts"),
    [
        ({}, ["localhost", "127.0.0.1", "::1", "127.0.0.1"]),
        ({"HOST": "10.1.2.3"}, ["localhost", "127.0.0.1", "::1", "10.1.2.3"]),
        ({"HOST": "fd00::1"}, ["localhost", "127.0.0.1", "::1", "[fd00::1]"]),
        ({"HOST": "10.1.2.3", "TRUSTED_HOSTS": "a.example.org"}, ["a.example.org"]),
    ],
)
def test_allowed_hosts_are_this_machine_or_the_configured_hosts(
    tmp_path: Path, environment: dict[str, str], hosts: list[str]
) -> None:
    found = read(tmp_path, **environment)

    assert found.allowed_hosts == hosts


def test_missing_secrets_are_generated_once_and_readable_only_by_their_owner(tmp_path: Path) -> None:
    home = tmp_path / "new" / "data"

    first, second = (Config.from_environment({"DATA_DIR": str(home)}) for _ in range(2))

    assert (first.secret_key, first.password_secret) == (second.secret_key, second.password_secret)
    assert first.secret_key != first.password_secret
    assert len(first.secret_key) == len(first.password_secret) == 64
    assert sorted(path.name for path in home.iterdir()) == ["password_secret", "secret_key"]
    assert {path.stat().st_mode & 0o777 for path in home.iterdir()} == {0o600}
    assert home.stat().st_mode & 0o077 == 0


def test_stored_secrets_are_read_without_writing_to_a_disk_that_may_be_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Config.from_environment({"DATA_DIR": str(tmp_path)})
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: pytest.fail("even mkdir() of an existing directory waits"))

    assert Config.from_environment({"DATA_DIR": str(tmp_path)}) == first


def test_configured_secrets_are_used_and_not_written_to_disk(tmp_path: Path) -> None:
    found = read(tmp_path, SECRET_KEY=SECRET, PASSWORD_SECRET=SECRET + "p")

    assert (found.secret_key, found.password_secret) == (SECRET, SECRET + "p")
    assert list(tmp_path.iterdir()) == []


def test_two_services_have_different_secrets(tmp_path: Path) -> None:
    one, other = read(tmp_path / "one"), read(tmp_path / "other")

    assert one.secret_key != other.secret_key
    assert one.password_secret != other.password_secret


def test_two_processes_that_generate_a_secret_at_once_both_use_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(tmp_path)
    monkeypatch.setattr(Path, "exists", lambda self, **_: False)  # the second process looked before the first one wrote

    second = read(tmp_path)

    assert (second.secret_key, second.password_secret) == (first.secret_key, first.password_secret)


def test_processes_that_start_at_once_agree_on_the_secrets(tmp_path: Path) -> None:
    program = "from config import Config; c = Config.from_environment(); print(c.secret_key, c.password_secret)"
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path)}

    started: list[subprocess.Popen[str]] = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = {process.communicate()[0] for process in started}

    assert [process.returncode for process in started] == [0] * 4
    assert len(outputs) == 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("content", ["", "short", "a" * 64])
def test_a_damaged_secret_file_prevents_the_start(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret_key").write_text(content)

    with pytest.raises(ConfigError, match=r"^DATA_DIR: .*secret_key cannot be used"):
        read(tmp_path)

    assert (tmp_path / "secret_key").read_text() == content


def test_a_data_dir_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match=r"^DATA_DIR: "):
        read(tmp_path / "file" / "data")


def test_the_environment_of_the_process_is_read_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PORT", "8099")

    found = Config.from_environment()

    assert found.port == 8099


def test_secrets_are_generated_by_the_secrets_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def token_hex(size: int) -> str:
        sizes.append(size)
        return SECRET

    monkeypatch.setattr("secrets.token_hex", token_hex)

    read(tmp_path)

    assert sizes == [32, 32]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("u:p%40ss@a:5432,b:5433/d", "u:p%40ss@/d?host=a:5432&host=b:5433"),
        ("u@a,b/d?sslmode=require", "u@/d?host=a&host=b&sslmode=require"),
        ("u@[::1]:5432,b:5433/d", "u@/d?host=::1,b&port=5432,5433"),
        ("u@[fd00::1],[fd00::2]/d?sslmode=require", "u@/d?host=fd00::1,fd00::2&sslmode=require"),
        ("u@[::1]:5432,b/d", "u@/d?host=::1,b&port=5432,"),
        ("u@[::1]:5432/d", "u@[::1]:5432/d"),
        ("u@%2Fvar%2Frun%2Fpostgresql/d", "u@/d?host=/var/run/postgresql"),
        ("u@%2Fvar%2Frun%2Fpostgresql:5433,b/d", "u@/d?host=/var/run/postgresql,b&port=5433,"),
        ("u@h/d?options=-csearch_path=x", "u@h/d?options=-csearch_path=x"),
        ("u@h/d?target_session_attrs=read-write", "u@h/d?target_session_attrs=read-write"),
    ],
)
def test_hosts_are_read_in_the_notation_of_postgresql(tmp_path: Path, given: str, found: str) -> None:
    assert read(tmp_path, DATABASE_URL=f"postgresql://{given}").database_url == f"postgresql+psycopg2://{found}"


@pytest.mark.parametrize(
    ("name", "query", "parameter"),
    [
        ("DATABASE_URL", "connect_timeout=10", "connect_timeout"),
        ("DATABASE_URL", "sslmode=require&client_encoding=latin1", "client_encoding"),
        ("DATABASE_URL", "target_session_attrs=any", "target_session_attrs"),
        ("DATABASE_READ_URL", "target_session_attrs=read-write", "target_session_attrs"),
        ("MIGRATIONS_DATABASE_URL", "keepalives=0", "keepalives"),
        ("DATABASE_URL", "schema=x", "schema"),
    ],
)
def test_a_parameter_of_the_url_that_would_have_no_effect_is_refused_by_name(
    tmp_path: Path, name: str, query: str, parameter: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}: .*\b{parameter}\b"):
        read(tmp_path, **{name: f"postgresql://u@h/d?{query}"})


def test_origins_are_read_as_browsers_send_them(tmp_path: Path) -> None:
    origins = "https://Shop.Example.org:443, http://localhost:3000,http://a.org:80,http://[::1]:3000,https://b.org:80"

    assert read(tmp_path, CORS_ORIGINS=origins).cors_origins == (
        "https://shop.example.org", "http://localhost:3000", "http://a.org", "http://[::1]:3000", "https://b.org:80",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/system.slice/a.service", {"system.slice/cpu.max": "400000 100000"}, 4),
        ("0::/a/b", {"a/cpu.max": "50000 100000", "a/b/cpu.max": "200000 100000", "cpu.max": "max 100000"}, 0.5),
        ("4:cpu,cpuacct:/host/path", {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("3:cpuset:/", {"cpu.max": "100000 100000"}, None),
        ("", {}, None),
    ],
)
def test_the_cpu_quota_is_that_of_the_cgroups(
    tmp_path: Path, membership: str, files: dict[str, str], quota: float | None
) -> None:
    (tmp_path / "membership").write_text(f"{membership}\n" if membership else "")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert cpu_quota(tmp_path, tmp_path / "membership") == quota


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.5, 1), (1.5, 2), (64.0, 8)])
def test_there_are_as_many_processes_as_cores_within_the_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr("config.os.sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr("config.cpu_quota", lambda: quota)

    assert _cores() == expected
