"""`flask doctor`: each line is OK or says what to do."""

import ipaddress
import re
import threading
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
from project.cli.doctor import file_system_type
from project.database import ReadDatabase
from project.queries import maintenance
from project.queries.server_activity import ServerActivity
from project.runtime import get_runtime
from project.spool import Spool
from tests.builders import IVAN, useradd
from tests.chaos.processes import HOST, free_port
from tests.conftest import MakeApp, Roles, Rows

Command = Callable[..., Result]
UNREACHABLE = "postgresql+psycopg2://u:p@127.0.0.1:1/d"
OTHER_SECRET = "0123456789abcdef" * 2
PROXY = (ipaddress.ip_network("10.0.0.5"),)


@pytest.fixture
def doctor(
    make_app: MakeApp, roles: Roles, tmp_path: Path, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Runs `flask doctor` for a well-configured service.

    It has a persistent disk, a restricted role and rate limits.
    """
    monkeypatch.setattr(module, "_read_mounts", lambda: "/dev/sda1 / ext4 rw 0 0\n")
    tmp_path.chmod(0o700)

    def run(**changes: object) -> Result:
        defaults = {
            "database_url": with_driver(roles.app),
            "data_dir": tmp_path,
            "ratelimit_enabled": True,
            "workers": 1,
        }
        app = make_app(**(defaults | changes))
        group = FlaskGroup(create_app=lambda: app, load_dotenv=False)
        return app.test_cli_runner().invoke(group, ["doctor"])

    return run


def with_driver(url: str) -> str:
    """Return an address with the driver name, as the settings have it."""
    return url.replace("postgresql://", "postgresql+psycopg2://")


def to_do(result: Result) -> dict[str, str]:
    """Return the remedy of each subject that needs one."""
    found = re.findall(r"^TO DO  (\w+(?: \w+)?)  .*\n +-> (.*)$", result.output, re.MULTILINE)
    return dict(found)


def test_a_healthy_service_has_no_findings(doctor: Command) -> None:
    result = doctor()

    assert (result.exit_code, to_do(result)) == (0, {}), result.output
    subjects = re.findall(r"^OK     (\S+(?: \S+)?)  ", result.output, re.MULTILINE)
    assert subjects == [
        *("database", "writes", "encoding", "tables", "migrations", "privileges", "issued passwords", "clock"),
        *("sessions", "connections", "standbys", "secrets"),
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


def test_an_outage_of_postgresql_is_reported_and_the_other_checks_run(doctor: Command) -> None:
    result = doctor(database_url=UNREACHABLE)

    assert (result.exit_code, list(to_do(result))) == (1, ["database"])
    assert {"DATA_DIR", "spool"} <= set(result.output.split())
    assert "Traceback" not in result.output
    assert "127.0.0.1:1: Connection refused" in result.output, "the sentence of libpq"


def test_a_database_in_another_encoding_is_reported(doctor: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """F49."""
    monkeypatch.setattr(
        module, "find_server", lambda connection: replace(maintenance.find_server(connection), encoding="LATIN1")
    )

    assert list(to_do(doctor())) == ["encoding"]


def test_a_missing_secret_of_issued_passwords_is_reported(doctor: Command, client: FlaskClient, rows: Rows) -> None:
    """F74: another instance created the user with another PASSWORD_SECRET."""
    issued = useradd(client, IVAN)
    assert issued.status_code == 201
    [key] = rows.of("idempotency_keys")
    shared = get_runtime(client.application).config.password_secret

    other = doctor(password_secret=OTHER_SECRET)
    rows.query("delete from idempotency_keys")
    without_keys = doctor(password_secret=OTHER_SECRET)

    assert list(to_do(other)) == list(to_do(without_keys)) == ["issued passwords"]
    assert f"some depend on a secret with key ID {key['kid']}; this instance has " in other.output
    assert to_do(doctor()) == to_do(doctor(password_secret=OTHER_SECRET, password_secret_fallbacks=(shared,))) == {}


def test_tables_of_another_application_are_reported(doctor: Command, rows: Rows) -> None:
    [row] = rows.of("alembic_version")
    rows.query("update alembic_version set version_num = 'ab12'")
    try:
        result = doctor()
    finally:
        rows.query("update alembic_version set version_num = :it", it=row["version_num"])

    assert list(to_do(result)) == ["tables", "migrations"]


def test_pending_migrations_are_reported(doctor: Command, rows: Rows) -> None:
    [row] = rows.of("alembic_version")
    rows.query("update alembic_version set version_num = '0001'")
    try:
        result = doctor()
    finally:
        rows.query("update alembic_version set version_num = :it", it=row["version_num"])

    assert (result.exit_code, to_do(result)) == (1, {"migrations": "run: flask db upgrade"})


@pytest.mark.parametrize("may_read_revision", [True, False])
def test_a_role_without_write_access_is_reported(
    doctor: Command, config: Config, rows: Rows, may_read_revision: bool
) -> None:
    rows.query("create role only_reads login password 'only_reads'")
    rows.query("grant usage on schema public to only_reads")
    if may_read_revision:
        rows.query("grant select on alembic_version to only_reads")
    assert config.database_url
    try:
        result = doctor(database_url=re.sub("//[^@]*@", "//only_reads:only_reads@", config.database_url))
    finally:
        rows.query("drop owned by only_reads")
        rows.query("drop role only_reads")

    assert to_do(result) == {"privileges": "run deploy/roles.sql: it grants the required privileges"}
    assert "role only_reads cannot read and write all tables" in result.output


@pytest.mark.parametrize("role", ["superuser", "owner"])
def test_a_role_that_may_drop_tables_is_reported(doctor: Command, config: Config, roles: Roles, role: str) -> None:
    result = doctor(database_url=config.database_url if role == "superuser" else with_driver(roles.owner))

    assert list(to_do(result)) == ["privileges"]
    assert "can change and drop tables" in result.output


def test_a_wrong_clock_is_reported(doctor: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CLOCK_DIFFERENCE_S", -1)

    assert list(to_do(doctor())) == ["clock"]


def test_secret_files_readable_by_others_are_reported(doctor: Command, tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("")
    (tmp_path / "secret_key").chmod(0o640)

    assert to_do(doctor()) == {"secrets": f"run: chmod go-rwx {tmp_path}/secret_key"}


@pytest.mark.parametrize(("mode", "is_exposed"), [(0o660, False), (0o664, True)])
def test_the_group_of_a_kubernetes_volume_may_read_secret_files(
    doctor: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, is_exposed: bool
) -> None:
    """With fsGroup, kubelet makes the volume 2775 and files readable by the group of the pod."""
    monkeypatch.setattr("os.getgroups", lambda: [tmp_path.stat().st_gid])
    tmp_path.chmod(0o2775)
    (tmp_path / "secret_key").write_text("")
    (tmp_path / "secret_key").chmod(mode)

    assert ("secrets" in to_do(doctor())) == is_exposed


def test_old_records_in_the_spool_and_quarantined_records_are_reported(
    doctor: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append("{}")
    spool.close()
    (next((tmp_path / "spool").glob("[0-9]*")) / "quarantine.log").write_text("odd\n")
    monkeypatch.setattr(module, "MAX_SPOOL_AGE_S", -1)

    assert list(to_do(doctor())) == ["spool", "quarantine"]


def test_a_disk_that_does_not_respond_is_reported(doctor: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    thaw = threading.Event()
    monkeypatch.setattr(module, "DISK_TIMEOUT_S", 0.01)
    monkeypatch.setattr("os.fsync", lambda _: thaw.wait(10))

    result = doctor()
    thaw.set()

    assert list(to_do(result)) == ["DATA_DIR"]
    assert "does not respond" in result.output
    assert "migrations" in result.output


def test_a_full_disk_and_a_temporary_file_system_are_reported(doctor: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_FREE_BYTES", 10**20)
    monkeypatch.setattr(module, "_read_mounts", lambda: "overlay / overlay rw 0 0\n")

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
def test_contradictory_settings_are_reported(doctor: Command, settings: dict[str, object], subjects: list[str]) -> None:
    assert list(to_do(doctor(**settings))) == subjects


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    mounts = f"overlay / overlay rw 0 0\n/dev/sda1 {tmp_path} ext4 rw 0 0\ntmpfs {tmp_path}/other tmpfs rw 0 0\n"

    assert file_system_type(tmp_path / "data", mounts) == "ext4"
    assert file_system_type(tmp_path.parent, mounts) == "overlay"
    assert file_system_type(tmp_path, "") is None


def test_disabled_rate_limits_are_reported(doctor: Command) -> None:
    assert list(to_do(doctor(ratelimit_enabled=False))) == ["rate limits"]


def test_rate_limits_counted_per_process_are_mentioned(doctor: Command) -> None:
    result = doctor(workers=4)

    assert (result.exit_code, "up to 4 times that" in result.output) == (0, True)


def test_an_unreachable_redis_is_reported(doctor: Command) -> None:
    result = doctor(ratelimit_storage_uri=f"redis://{HOST}:{free_port()}/0")

    assert list(to_do(result)) == ["rate limits"]


HEALTHY = ServerActivity(
    statement_timeout="2s",
    max_sessions=97,
    sessions=20,
    standbys=2,
    synchronous_standby_names="db2",
)


@pytest.mark.parametrize(
    ("changes", "subject", "message"),
    [
        ({"statement_timeout": "0"}, "sessions", "statement_timeout is 0"),
        ({"max_sessions": 17}, "connections", "up to 22; 20 of 17"),
        ({"sessions": 90}, "connections", "90 of 97 are in use"),
        ({"synchronous_standby_names": ""}, "standbys", "2, but COMMIT waits for none"),
        ({"standbys": 0}, "standbys", "none, but COMMIT waits for db2"),
    ],
)
def test_problems_of_server_activity_are_reported(
    doctor: Command, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], subject: str, message: str
) -> None:
    monkeypatch.setattr(server_checks, "find_server_activity", lambda _: replace(HEALTHY, **changes))

    result = doctor(workers=2)

    assert list(to_do(result)) == [subject]
    assert message in result.output


def test_healthy_server_activity_has_no_findings(doctor: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_checks, "find_server_activity", lambda _: HEALTHY)

    assert to_do(doctor(workers=2)) == {}


def test_an_unreachable_replica_is_reported(doctor: Command) -> None:
    result = doctor(database_read_url=UNREACHABLE)

    assert list(to_do(result)) == ["replica"]


def test_a_primary_configured_as_a_replica_is_reported(doctor: Command, config: Config) -> None:
    assert list(to_do(doctor(database_read_url=config.database_url))) == ["replica"]


@pytest.mark.parametrize(("lag_s", "subjects"), [(0.3, []), (7.2, ["replica"])])
def test_a_lagging_replica_is_reported(
    doctor: Command, monkeypatch: pytest.MonkeyPatch, lag_s: float, subjects: list[str]
) -> None:
    monkeypatch.setattr(ReadDatabase, "measure_lag", lambda _: lag_s)

    result = doctor(database_read_url=UNREACHABLE)

    assert list(to_do(result)) == subjects
    assert f"{lag_s} s behind" in result.output


def test_the_findings_are_in_the_language_of_the_terminal(doctor: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "ru_RU.UTF-8")

    output = doctor().output
    lines = [line.split("  ")[1:] for line in output.splitlines()]

    assert "свободно" in output  # checked in another thread
    assert [line for line in lines if not re.search("[а-яё]", " ".join(line))] == []
