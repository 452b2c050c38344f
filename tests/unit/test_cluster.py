"""`./run cluster`: the configuration files it fills in, and how it counts results."""

import re
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml

from tests.chaos.load import Answer
from tests.chaos.processes import find_program
from tests.chaos.tally import table, tally
from tests.cluster.clients import Received, longest_gap
from tests.cluster.database import DEPLOY, filled_in
from tests.cluster.network import NETWORK

HOSTS = {"DB1": "198.18.77.11", "DB2": "198.18.77.12", "DB3": "198.18.77.13"}
PASSWORDS = {f"{role}_PASSWORD": "secret" for role in ("SUPERUSER", "REPLICATION", "REWIND")}
VALUES = {
    "patroni.yml": HOSTS | PASSWORDS | {"NAME": "db1", "ADDRESS": HOSTS["DB1"], "NETWORK": NETWORK, "DATA_DIR": "/d"},
    "etcd.env": HOSTS | {"NAME": "db1", "ADDRESS": HOSTS["DB1"], "DATA_DIR": "/d"},
    "haproxy-postgresql.cfg": HOSTS | {"ADDRESS": "127.0.0.1"},
    "pgbouncer.ini": {
        "ADDRESS": "127.0.0.1",
        "PORT": "6432",
        "USERLIST": "/u",
        "POSTGRES_HOST": "h",
        "POSTGRES_PORT": "5",
    },
}


@pytest.mark.parametrize("name", VALUES)
def test_a_configuration_template_needs_exactly_the_documented_values(name: str) -> None:
    placeholders = set(re.findall(r"\$\{(\w+)\}", (DEPLOY / name).read_text()))

    assert placeholders == VALUES[name].keys()
    assert all(f"`{value}`" in (DEPLOY.parent / "docs" / "scaling.md").read_text() for value in placeholders)


def test_patroni_replicates_synchronously_and_satisfies_its_own_timing_rule() -> None:
    settings = yaml.safe_load(filled_in("patroni.yml", VALUES["patroni.yml"]))

    rules = settings["bootstrap"]["dcs"]
    assert rules["synchronous_mode"] is True
    assert rules["ttl"] >= rules["loop_wait"] + 2 * rules["retry_timeout"]
    assert "etcd3" not in settings


def test_the_environment_of_etcd_has_only_etcd_settings() -> None:
    lines = [line for line in filled_in("etcd.env", VALUES["etcd.env"]).splitlines() if not line.startswith("#")]

    assert all(re.fullmatch(r"ETCD_[A-Z0-9_]+=\S+", line) for line in lines)


def test_haproxy_accepts_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(filled_in("haproxy-postgresql.cfg", VALUES["haproxy-postgresql.cfg"]))
    haproxy = find_program("haproxy")

    assert [line.split()[1] for line in file.read_text().splitlines() if line.startswith("listen")] == [
        "primary",
        "replicas",
    ]
    if haproxy:
        assert subprocess.run([haproxy, "-c", "-f", file], capture_output=True).returncode == 0


def test_pgbouncer_pools_transactions() -> None:
    ini = ConfigParser(interpolation=None)
    ini.read_string(filled_in("pgbouncer.ini", VALUES["pgbouncer.ini"]))

    assert ini["pgbouncer"]["pool_mode"] == "transaction"
    assert "options" in ini["pgbouncer"]["ignore_startup_parameters"].split(",")


def answer(status: int | None, user: str = "", attempt: str = "") -> Answer:
    """Return a response as a client received it."""
    body: dict[str, Any] = {"attempt_id": attempt} if attempt else {}
    if user:
        body["user"] = {"id": user}
    return Answer(status, body, 0.5, {}, "key", {})


def test_the_tally_finds_lost_and_duplicate_rows() -> None:
    tables: dict[str, list[tuple[Any, ...]]] = {
        "select id from attempts where id": [("a1",)],
        "select id from users": [("u1",)],
        "select count(*) from (select lower": [(2,)],
    }

    def ask(sql: str, parameters: object = None) -> list[tuple[Any, ...]]:
        return next((rows for start, rows in tables.items() if sql.startswith(start)), [(0,)])

    answers = [answer(201, "u1", "a1"), answer(201, "u2", "a2"), answer(503, attempt="a1"), answer(None)]

    found = dict(tally(ask, answers, {"kill primary": 3}))

    assert found["requests"] == 4
    assert (found["attempts lost"], found["duplicate attempt IDs"]) == (1, 1)
    assert (found["users lost"], found["duplicate usernames"]) == (1, 2)
    assert found["  no response (process killed)"] == 1
    assert table([("requests", 4)]).split() == ["requests", "4"]


def test_a_gap_lasts_from_the_fault_to_the_next_created_user() -> None:
    received = [Received(Mock(), answer(status), at) for status, at in ((201, 0.5), (503, 2.0), (201, 7.0), (201, 9.0))]

    assert longest_gap(received, since=1.0, until=10.0) == 6.0
