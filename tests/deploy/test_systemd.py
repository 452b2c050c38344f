"""deploy/systemd and its .env files: valid, sandboxed, and start the service."""

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
from tests.chaos.service import PASS_SOCKET, ROOT
from tests.deploy.conftest import Database
from tests.deploy.reverse_proxies import DEPLOY

SYSTEMD = DEPLOY / "systemd"
GUIDE = (ROOT / "docs" / "deployment.md").read_text()
SERVICES = sorted(path.name for path in SYSTEMD.glob("*.service"))
UNITS = sorted(path.name for path in SYSTEMD.iterdir())
EXPOSURE = 15
"""Maximum exposure level of systemd-analyze in tenths, 0 to 100; a unit without protection has 96."""
Unit = dict[str, list[str]]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The files as an administrator installs them, but below a temporary folder."""
    for name in ("etc/useradd", "var/lib/useradd", "var/backups/useradd", "units"):
        (tmp_path / name).mkdir(parents=True)
    for path in [*SYSTEMD.iterdir(), *DEPLOY.glob("*.env")]:
        text = path.read_text().replace("/opt/useradd", str(ROOT))
        for folder in ("/etc/useradd", "/var/lib/useradd", "/var/backups/useradd"):
            text = text.replace(folder, f"{tmp_path}{folder}")
        (tmp_path / ("etc/useradd" if path.suffix == ".env" else "units") / path.name).write_text(text)
    return tmp_path


def read(path: Path) -> Unit:
    """Return the settings of a unit; a key such as `EnvironmentFile` may occur several times."""
    unit: Unit = defaultdict(list)
    for line in path.read_text().splitlines():
        key, is_setting, value = line.partition("=")
        if is_setting and not line.startswith(("#", "[")):
            unit[key].append(value)
    return unit


def analyze(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run systemd-analyze."""
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True)


if shutil.which("systemd-analyze"):  # other systems do not run these units

    def test_the_units_are_valid(installed: Path) -> None:
        result = analyze("verify", *(installed / "units").iterdir())

        assert (result.returncode, result.stderr) == (0, "")

    @pytest.mark.parametrize("name", SERVICES)
    def test_the_exposure_level_of_each_service_is_low(installed: Path, name: str) -> None:
        result = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", installed / "units" / name)

        assert result.returncode == 0, result.stdout


def test_every_unit_is_started_by_another_unit_or_by_the_instructions() -> None:
    timers = {"useradd-prune.timer", "useradd-backup.timer"}
    started = {"useradd.socket", "useradd.service"} | timers | {name.replace(".timer", ".service") for name in timers}
    for name in UNITS:
        started |= {other for value in read(SYSTEMD / name)["Wants"] for other in value.split()}

    assert set(UNITS) == started - {"network-online.target"}
    assert all(f" {name}" in GUIDE for name in ["useradd.socket", "useradd.service", *timers])


@pytest.mark.parametrize("name", SERVICES)
def test_every_unit_runs_as_its_own_user_with_a_read_only_file_system(name: str) -> None:
    unit = read(SYSTEMD / name)

    assert (unit["User"], unit["ProtectSystem"], unit["NoNewPrivileges"]) == (["useradd"], ["strict"], ["yes"])
    assert (unit["StateDirectory"], unit["UMask"]) == (["useradd"], ["0077"])


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "useradd.service"])
def test_no_unit_runs_for_ever_or_holds_up_a_start(name: str) -> None:
    """Timers start a unit again after its end; the service waits for the job of the migration."""
    unit = read(SYSTEMD / name)

    limits = unit["JobRunningTimeoutSec"] if name == "useradd-migrate.service" else unit["TimeoutStartSec"]
    assert (unit["Type"], limits) in [(["oneshot"], ["5"]), (["oneshot"], ["6h"])]


def test_only_root_can_read_the_password_of_the_owner_role() -> None:
    """systemd reads these files as root, before it changes to the user of the service."""
    owner = sorted(path.name for path in DEPLOY.glob("*.env") if "useradd_owner" in path.read_text())

    assert owner == ["backup.env", "migrate.env"]
    assert "install -m 600 deploy/migrate.env deploy/backup.env /etc/useradd/" in GUIDE


def test_systemd_waits_longer_for_a_stop_than_a_stop_takes() -> None:
    deadline_s: float = settings()["request_deadline_s"]["parse"](settings()["request_deadline_s"]["shown"])

    assert int(read(SYSTEMD / "useradd.service")["TimeoutStopSec"][0]) > deadline_s + STOP_S


def test_the_service_accepts_every_setting_in_the_environment_files(tmp_path: Path) -> None:
    given = _variables(DEPLOY / "useradd.env") | _variables(DEPLOY / "migrate.env")

    assert given.keys() <= {name.upper() for name in settings()}
    assert Config.from_environment(given | {"DATA_DIR": str(tmp_path)}).https_only


def test_each_unit_runs_its_command_successfully(installed: Path, postgres_url: str) -> None:
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
        tables = database.execute("select count(*)::int from users")
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
    """Start the command of a unit with its environment and working directory."""
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
    return subprocess.Popen(command.split(), env=environment, cwd=folder, **options)  # type: ignore[call-overload, no-any-return]  # only pass_fds is passed


def _run_to_the_end(installed: Path, name: str) -> int:
    return _start(installed, name).wait(60)


@contextmanager
def _served(installed: Path) -> Iterator[int]:
    """Open the socket of the socket unit and pass it to the service; yield its port."""
    host, _, port = read(SYSTEMD / "useradd.socket")["ListenStream"][0].rpartition(":")
    assert int(port) == int(settings()["port"]["shown"])
    with socket.create_server((host, 0)) as listener:
        (installed / "take.py").write_text(PASS_SOCKET)
        _replace(
            installed / "units" / "useradd.service",
            "ExecStart=",
            f"ExecStart={sys.executable} {installed / 'take.py'} {listener.fileno()} ",
        )
        process = _start(installed, "useradd.service", pass_fds=[listener.fileno()])
        yield listener.getsockname()[1]
        process.terminate()
        assert process.wait(30) == 0


def _status(port: int, path: str) -> int:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path, headers={"Host": "localhost"})
        return connection.getresponse().status
