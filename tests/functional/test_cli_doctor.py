"""`flask doctor`: each line OK, or what to do."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask.cli import FlaskGroup
from flask.testing import FlaskClient

from config import Config
from project.cli import doctor as module
from project.cli import server_checks
from project.cli.doctor import file_system
from project.database import ReadDatabase
from project.queries.server_activity import ServerActivity
from project.spool import Spool
from tests.chaos.processes import HOST, free_port
from tests.conftest import MakeApp, Roles, Rows

Command = Callable[..., Result]
UNREACHABLE = "postgresql+psycopg2://u:p@127.0.0.1:1/d"
PROXY = (ipaddress.ip_network("10.0.0.5"),)


@pytest.fixture
def doctor(
    make_app: MakeApp, roles: Roles, tmp_path: Path, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Runs `flask doctor` of a service with a disk of its own that stays, a role that may little, and limits."""
    monkeypatch.setattr(module, "_mounts", lambda: "/dev/sda1 / ext4 rw 0 0\n")
    tmp_path.chmod(0o700)

    def run(**changes: object) -> Result:
        sound = {"database_url": by(roles.app), "data_dir": tmp_path, "ratelimit_enabled": True, "workers": 1}
        app = make_app(**(sound | changes))
        group = FlaskGroup(create_app=lambda: app, load_dotenv=False)
        return app.test_cli_runner().invoke(group, ["doctor"])

    return run


def by(url: str) -> str:
    """Return an address as the settings read it."""
    return url.replace("postgresql://", "postgresql+psycopg2://")


def to_do(result: Result) -> dict[str, str]:
    """Return what has to be done by subject."""
    found = re.findall(r"^TO DO  (\w+(?: \w+)?)  .*\n +-> (.*)$", result.output, re.MULTILINE)
    return dict(found)


def test_a_sound_service_needs_nothing(doctor: Command) -> None:
    result = doctor()

    assert (result.exit_code, to_do(result)) == (0, {}), result.output
    subjects = re.findall(r"^OK     (\S+(?: \S+)?)  ", result.output, re.MULTILINE)
    assert subjects == [
        *("database", "writes", "migrations", "privileges", "clock", "sessions", "connections", "standbys", "secrets"),
        *(
            "DATA_DIR",
            "file system",
            "spool",
            "quarantine",
            "time zone",
            "proxies",
            "host names",
            "rate limits",
            "metrics",
        ),
    ]
    assert re.search(r"PostgreSQL \d\d", result.output)


def test_without_postgres_it_says_so_and_looks_at_the_rest(doctor: Command) -> None:
    result = doctor(database_url=UNREACHABLE)

    assert (result.exit_code, list(to_do(result))) == (1, ["database"])
    assert {"DATA_DIR", "spool"} <= set(result.output.split())
    assert "Traceback" not in result.output


def test_tables_that_are_behind_are_to_be_brought_up(doctor: Command, rows: Rows) -> None:
    [row] = rows.of("alembic_version")
    rows.ask("update alembic_version set version_num = '0001'")
    try:
        result = doctor()
    finally:
        rows.ask("update alembic_version set version_num = :it", it=row["version_num"])

    assert (result.exit_code, to_do(result)) == (1, {"migrations": "run: flask db upgrade"})


def test_a_role_that_may_not_write_the_tables_is_found(doctor: Command, config: Config, rows: Rows) -> None:
    rows.ask("create role only_reads login password 'only_reads'")
    rows.ask("grant usage on schema public to only_reads")
    rows.ask("grant select on alembic_version to only_reads")
    assert config.database_url
    try:
        result = doctor(database_url=re.sub("//[^@]*@", "//only_reads:only_reads@", config.database_url))
    finally:
        rows.ask("drop owned by only_reads")
        rows.ask("drop role only_reads")

    assert to_do(result) == {"privileges": "run deploy/roles.sql: it grants the required privileges"}
    assert "role only_reads cannot read and write all tables" in result.output


@pytest.mark.parametrize("by_whom", ["superuser", "owner"])
def test_a_role_that_may_drop_tables_is_found(doctor: Command, config: Config, roles: Roles, by_whom: str) -> None:
    result = doctor(database_url=config.database_url if by_whom == "superuser" else by(roles.owner))

    assert list(to_do(result)) == ["privileges"]
    assert "can change and drop tables" in result.output


def test_a_clock_that_is_wrong_is_found(doctor: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CLOCK_DIFFERENCE_S", -1)

    assert list(to_do(doctor())) == ["clock"]


def test_secrets_that_others_can_read_are_found(doctor: Command, tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("")
    (tmp_path / "secret_key").chmod(0o640)

    assert to_do(doctor()) == {"secrets": f"run: chmod go-rwx {tmp_path}/secret_key"}


def test_what_waits_for_long_and_what_is_in_quarantine_is_found(
    doctor: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append("{}")
    spool.close()
    (next((tmp_path / "spool").glob("[0-9]*")) / "quarantine.log").write_text("odd\n")
    monkeypatch.setattr(module, "MAX_SPOOL_AGE_S", -1)

    assert list(to_do(doctor())) == ["spool", "quarantine"]


def test_a_full_disk_and_one_that_passes_are_found(doctor: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_FREE_BYTES", 10**20)
    monkeypatch.setattr(module, "_mounts", lambda: "overlay / overlay rw 0 0\n")

    assert list(to_do(doctor())) == ["DATA_DIR", "file system"]


@pytest.mark.parametrize(
    ("settings", "subjects"),
    [
        ({"https_only": True, "trusted_hosts": ("u.example",)}, ["proxies"]),
        ({"trusted_proxies": PROXY, "trusted_hosts": ("u.example",)}, ["proxies"]),
        ({"trusted_proxies": PROXY, "https_only": True}, ["host names"]),
        ({"host": "0.0.0.0"}, ["host names"]),  # noqa: S104 - nothing listens
        ({"trusted_proxies": PROXY, "https_only": True, "trusted_hosts": ("u.example",)}, []),
        ({"metrics_allow": (ipaddress.ip_network("0.0.0.0/0"),)}, ["metrics"]),
        ({"metrics_allow": PROXY}, []),
    ],
)
def test_settings_that_contradict_each_other_are_found(
    doctor: Command, settings: dict[str, object], subjects: list[str]
) -> None:
    assert list(to_do(doctor(**settings))) == subjects


def test_the_nearest_mount_tells_the_file_system(tmp_path: Path) -> None:
    mounts = f"overlay / overlay rw 0 0\n/dev/sda1 {tmp_path} ext4 rw 0 0\ntmpfs {tmp_path}/other tmpfs rw 0 0\n"

    assert file_system(tmp_path / "data", mounts) == "ext4"
    assert file_system(tmp_path.parent, mounts) == "overlay"
    assert file_system(tmp_path, "") is None


def test_limits_that_are_off_are_found(doctor: Command) -> None:
    assert list(to_do(doctor(ratelimit_enabled=False))) == ["rate limits"]


def test_that_each_process_counts_for_itself_is_told(doctor: Command) -> None:
    result = doctor(workers=4)

    assert (result.exit_code, "up to 4 times that" in result.output) == (0, True)


def test_a_redis_that_does_not_answer_is_found(doctor: Command) -> None:
    result = doctor(ratelimit_storage_uri=f"redis://{HOST}:{free_port()}/0")

    assert list(to_do(result)) == ["rate limits"]


MACHINES = ServerActivity(statement_timeout="2s", room=97, in_use=20, standbys=2, awaited="db2")


@pytest.mark.parametrize(
    ("changes", "subject", "told"),
    [
        ({"statement_timeout": "0"}, "sessions", "statement_timeout is 0"),
        ({"room": 17}, "connections", "up to 18; 20 of 17"),
        ({"in_use": 90}, "connections", "90 of 97 are in use"),
        ({"awaited": ""}, "standbys", "2, but COMMIT waits for none"),
        ({"standbys": 0}, "standbys", "none, but COMMIT waits for db2"),
    ],
)
def test_machines_around_that_need_a_look_are_found(
    doctor: Command, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], subject: str, told: str
) -> None:
    monkeypatch.setattr(server_checks, "find_server_activity", lambda _: replace(MACHINES, **changes))

    result = doctor(workers=2)

    assert list(to_do(result)) == [subject]
    assert told in result.output


def test_machines_around_that_are_sound_need_nothing(doctor: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_checks, "find_server_activity", lambda _: MACHINES)

    assert to_do(doctor(workers=2)) == {}


def test_a_replica_that_does_not_answer_is_found(doctor: Command) -> None:
    result = doctor(database_read_url=UNREACHABLE)

    assert list(to_do(result)) == ["replica"]


def test_a_primary_is_no_replica(doctor: Command, config: Config) -> None:
    assert list(to_do(doctor(database_read_url=config.database_url))) == ["replica"]


@pytest.mark.parametrize(("lag_s", "subjects"), [(0.3, []), (7.2, ["replica"])])
def test_a_replica_that_lags_is_found(
    doctor: Command, monkeypatch: pytest.MonkeyPatch, lag_s: float, subjects: list[str]
) -> None:
    monkeypatch.setattr(ReadDatabase, "measure_lag", lambda _: lag_s)

    result = doctor(database_read_url=UNREACHABLE)

    assert list(to_do(result)) == subjects
    assert f"{lag_s} s behind" in result.output
