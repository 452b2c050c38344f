"""deploy/systemd, useradd.env, migrate.env and backup.env: valid, locked down, and start what they say."""

import os
import shutil
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from config import Config, settings
from project.embedded.data_directory import wheel_programs
from project.server import STOP_S
from tests.chaos.service import ROOT, TAKE
from tests.deploy.conftest import Database
from tests.deploy.fronts import DEPLOY

SYSTEMD = DEPLOY / "systemd"
GUIDE = (ROOT / "docs" / "deployment.md").read_text()
SERVICES = sorted(path.name for path in SYSTEMD.glob("*.service"))
UNITS = sorted(path.name for path in SYSTEMD.iterdir())
EXPOSURE = 15
"""Tenths, from 0 to 100; a unit without any protection has 96."""
Unit = dict[str, list[str]]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The files as an administrator installs them, but below a folder of the test's own."""
    for name in ("etc/useradd", "var/lib/useradd", "var/backups/useradd", "units"):
        (tmp_path / name).mkdir(parents=True)
    for path in [*SYSTEMD.iterdir(), *DEPLOY.glob("*.env")]:
        text = path.read_text().replace("/opt/useradd", str(ROOT))
        for folder in ("/etc/useradd", "/var/lib/useradd", "/var/backups/useradd"):
            text = text.replace(folder, f"{tmp_path}{folder}")
        (tmp_path / ("etc/useradd" if path.suffix == ".env" else "units") / path.name).write_text(text)
    return tmp_path


def read(path: Path) -> Unit:
    """Return what a unit says; a key may stand several times, as in `EnvironmentFile`."""
    unit: Unit = defaultdict(list)
    for line in path.read_text().splitlines():
        key, is_setting, value = line.partition("=")
        if is_setting and not line.startswith(("#", "[")):
            unit[key].append(value)
    return unit


def analyze(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Ask systemd itself."""
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True)


if shutil.which("systemd-analyze"):  # systems without systemd do not run these units either

    def test_the_units_are_valid(installed: Path) -> None:
        done = analyze("verify", *(installed / "units").iterdir())

        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize("name", SERVICES)
    def test_a_service_may_do_little_else_than_its_work(installed: Path, name: str) -> None:
        done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", installed / "units" / name)

        assert done.returncode == 0, done.stdout


def test_every_unit_is_started_by_something() -> None:
    timers = {"useradd-prune.timer", "useradd-backup.timer"}
    started = {"useradd.socket", "useradd.service"} | timers | {name.replace(".timer", ".service") for name in timers}
    for name in UNITS:
        started |= {other for value in read(SYSTEMD / name)["Wants"] for other in value.split()}

    assert set(UNITS) == started - {"network-online.target"}
    assert all(f" {name}" in GUIDE for name in ["useradd.socket", "useradd.service", *timers])


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_runs_as_a_user_of_its_own_who_sees_the_system_and_changes_nothing(name: str) -> None:
    unit = read(SYSTEMD / name)

    assert (unit["User"], unit["ProtectSystem"], unit["NoNewPrivileges"]) == (["useradd"], ["strict"], ["yes"])
    assert (unit["StateDirectory"], unit["UMask"]) == (["useradd"], ["0077"])


def test_the_password_of_the_role_that_owns_the_tables_is_for_root_alone() -> None:
    """systemd reads these files before it becomes the user of the service."""
    owner = sorted(path.name for path in DEPLOY.glob("*.env") if "useradd_owner" in path.read_text())

    assert owner == ["backup.env", "migrate.env"]
    assert "install -m 600 deploy/migrate.env deploy/backup.env /etc/useradd/" in GUIDE


def test_systemd_waits_longer_for_a_stop_than_a_stop_takes() -> None:
    deadline_s: float = settings()["request_deadline_s"]["parse"](settings()["request_deadline_s"]["shown"])

    assert int(read(SYSTEMD / "useradd.service")["TimeoutStopSec"][0]) > deadline_s + STOP_S


def test_every_line_of_the_settings_is_a_setting_that_the_service_takes(tmp_path: Path) -> None:
    given = _variables(DEPLOY / "useradd.env") | _variables(DEPLOY / "migrate.env")

    assert given.keys() <= {name.upper() for name in settings()}
    assert Config.from_environment(given | {"DATA_DIR": str(tmp_path)}).https_only


def test_each_service_does_its_work(installed: Path, postgres_url: str) -> None:
    database = Database(postgres_url, "systemd").create()
    address = urlsplit(database.url)
    for name, role in (("useradd", "app"), ("migrate", "owner")):
        sample = f"postgresql://useradd_{role}:CHANGE-ME@127.0.0.1/useradd"
        _replace(installed / f"etc/useradd/{name}.env", sample, database.url)
    (installed / "etc/useradd/backup.env").write_text(
        f"PGHOST={address.hostname}\nPGPORT={address.port}\nPGUSER={address.username}\n"
        f"PGPASSWORD={address.password}\nPGDATABASE={database.name}\n"
    )

    try:
        migrated = _run_to_the_end(installed, "useradd-migrate.service")
        tables = database.ask("select count(*)::int from users")
        with _served(installed) as port:
            statuses = [_status(port, "/readyz"), _status(port, "/login/")]
        pruned = _run_to_the_end(installed, "useradd-prune.service")
        backed_up = _run_to_the_end(installed, "useradd-backup.service")
    finally:
        database.drop()

    assert (migrated, pruned, backed_up) == (0, 0, 0)
    assert (tables, statuses) == ([(0,)], [200, 200])
    assert [path.name for path in (installed / "var/backups/useradd").glob("*/*.dump")] == ["database.dump"]


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _variables(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def _start(installed: Path, name: str, **options: object) -> "subprocess.Popen[bytes]":
    """Start what the unit starts, with its settings, in its folder."""
    unit = read(installed / "units" / name)
    programs = wheel_programs().resolve()  # pg_dump
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "LD_LIBRARY_PATH": f"{programs.parents[1]}.libs"}
    for value in unit["Environment"]:
        environment |= dict(pair.split("=", 1) for pair in value.split())
    for value in unit["EnvironmentFile"]:
        path = Path(value.removeprefix("-"))
        environment |= _variables(path) if path.exists() or not value.startswith("-") else {}
    (command,) = unit["ExecStart"]
    (folder,) = unit["WorkingDirectory"] or ["/"]
    return subprocess.Popen(command.split(), env=environment, cwd=folder, **options)  # type: ignore[call-overload, no-any-return]  # options are for pass_fds alone


def _run_to_the_end(installed: Path, name: str) -> int:
    return _start(installed, name).wait(60)


@contextmanager
def _served(installed: Path) -> Iterator[int]:
    """Hold the socket, as systemd does, and hand it to the service; the socket unit says on which address."""
    host, _, port = read(SYSTEMD / "useradd.socket")["ListenStream"][0].rpartition(":")
    assert int(port) == int(settings()["port"]["shown"])
    with socket.create_server((host, 0)) as held:
        (installed / "take.py").write_text(TAKE)
        _replace(
            installed / "units" / "useradd.service",
            "ExecStart=",
            f"ExecStart={sys.executable} {installed / 'take.py'} {held.fileno()} ",
        )
        process = _start(installed, "useradd.service", pass_fds=[held.fileno()])
        yield held.getsockname()[1]
        process.terminate()
        assert process.wait(30) == 0


def _status(port: int, path: str) -> int:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path, headers={"Host": "localhost"})
        return connection.getresponse().status
