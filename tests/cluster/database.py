"""The PostgreSQL cluster: three hosts with Patroni and etcd behind HAProxy.

They are configured by the files of deploy/.
"""

import json
import os
import secrets
import shutil
import urllib.request
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from string import Template
from typing import Any

import psycopg2

from tests.chaos import processes
from tests.chaos.processes import eventually
from tests.cluster.network import NETWORK, Host, Network

DEPLOY = Path(__file__).parents[2] / "deploy"
OWNER = "postgres"
NAME = "useradd"
UP_S, HEALED_S = 90.0, 120.0
HOSTS = {"db1": 11, "db2": 12, "db3": 13}
BALANCER = 31
Rows = list[tuple[Any, ...]]


def filled_in(name: str, values: Mapping[str, str]) -> str:
    """Return a file of deploy/ with its `${NAMES}` replaced, as envsubst does."""
    return Template((DEPLOY / name).read_text()).substitute(values)


class DatabaseHost:
    """A host with PostgreSQL, Patroni and a member of etcd."""

    def __init__(self, host: Host, values: Mapping[str, str]) -> None:
        self.host = host
        self.name, self.address = host.name, host.address
        own = dict(values) | {"NAME": host.name, "ADDRESS": host.address}
        self.data = host.folder / "postgres"
        self._patroni = host.folder / "patroni.yml"
        self._patroni.write_text(filled_in("patroni.yml", own | {"DATA_DIR": str(self.data)}))
        etcd = filled_in("etcd.env", own | {"DATA_DIR": str(host.folder / "etcd")})
        self._etcd = dict(line.split("=", 1) for line in etcd.splitlines() if line and not line.startswith("#"))
        shutil.chown(host.folder, OWNER, OWNER)

    def start(self) -> None:
        """Start etcd and Patroni, which starts PostgreSQL."""
        self.start_etcd()
        self.host.run("patroni", str(self._patroni), user=OWNER)

    def start_etcd(self) -> None:
        """Start the member of etcd."""
        self.host.run("etcd", user=OWNER, settings=self._etcd)

    def kill_etcd(self) -> None:
        """SIGKILL the member of etcd."""
        self.host.kill("etcd")

    def kill_postgres(self) -> None:
        """SIGKILL PostgreSQL, but not Patroni."""
        processes.kill(int((self.data / "postmaster.pid").read_text().splitlines()[0]))

    def kill_all(self) -> None:
        """SIGKILL all processes, as in a power failure."""
        self.host.kill("patroni")
        self.kill_postgres()
        self.kill_etcd()

    def patroni(self, path: str, body: object = None) -> Any:
        """Send a request to Patroni's REST API. Raises OSError if it fails."""
        return _request(f"http://{self.address}:8008/{path}", body)

    def leads_etcd(self) -> bool:
        """Return whether this member of etcd is the leader."""
        try:
            status = _request(f"http://{self.address}:2379/v3/maintenance/status", {})
        except OSError:
            return False
        return bool(status["header"]["member_id"] == status.get("leader"))


class Database:
    """All database hosts and the load balancer."""

    def __init__(self, network: Network) -> None:
        hosts = [network.host(name, number) for name, number in HOSTS.items()]
        self.balancer = network.host("balancer", BALANCER)
        self.password = secrets.token_urlsafe(24)
        self._values = {host.name.upper(): host.address for host in hosts} | {
            "NETWORK": NETWORK,
            **{f"{role}_PASSWORD": secrets.token_urlsafe(24) for role in ("SUPERUSER", "REPLICATION", "REWIND")},
        }
        self.hosts = [DatabaseHost(host, self._values) for host in hosts]

    def start(self) -> None:
        """Start all processes, wait until the cluster is healthy, and create the database."""
        for host in self.hosts:
            host.start()
        file = self.balancer.folder / "haproxy.cfg"
        file.write_text(filled_in("haproxy-postgresql.cfg", self._values | {"ADDRESS": self.balancer.address}))
        self.balancer.run("haproxy", "-db", "-f", str(file))
        eventually(self.is_well, UP_S, f"the cluster did not start, see {self.balancer.folder.parent}")
        self._administer(f"create role {NAME} login password '{self.password}'")
        self._administer(f"create database {NAME} owner {NAME}")

    def close(self) -> None:
        """Kill all processes."""
        for host in self.hosts:
            host.kill_all()

    @property
    def url_of_hosts(self) -> str:
        """The URL that names all hosts."""
        hosts = ",".join(f"{host.address}:5432" for host in self.hosts)
        return f"postgresql://{NAME}:{self.password}@{hosts}/{NAME}"

    def url_of_balancer(self, port: int = 5432) -> str:
        """Return the URL of HAProxy: port 5432 leads to the primary, 5433 to a standby."""
        return f"postgresql://{NAME}:{self.password}@{self.balancer.address}:{port}/{NAME}"

    def execute(self, sql: str, parameters: object = None) -> Rows:
        """Run one statement on the primary and return its rows."""
        return _execute(self.url_of_hosts, sql, parameters)

    def _administer(self, sql: str) -> Rows:
        hosts = ",".join(f"{host.address}:5432" for host in self.hosts)
        return _execute(f"postgresql://postgres:{self._values['SUPERUSER_PASSWORD']}@{hosts}/postgres", sql)

    @property
    def log(self) -> Path:
        """A file with the logs of PostgreSQL and Patroni on all hosts."""
        combined = self.balancer.folder / "databases.log"
        combined.write_bytes(b"".join(each.host.log("patroni").read_bytes() for each in self.hosts))
        return combined

    def roles(self) -> dict[str, str]:
        """Return the Patroni role of each running host: leader, sync_standby or replica.

        The result is {} if no Patroni responds.
        """
        for host in self.hosts:
            with suppress(OSError):
                members = host.patroni("cluster")["members"]
                return {each["name"]: each["role"] for each in members if each["state"] in ("running", "streaming")}
        return {}

    def is_well(self) -> bool:
        """Return whether the cluster has a primary and both kinds of standby.

        Patroni and PostgreSQL must report one synchronous and one asynchronous standby.
        """
        if sorted(self.roles().values()) != ["leader", "replica", "sync_standby"]:
            return False
        try:
            states = self._administer("select sync_state from pg_stat_replication where state = 'streaming'")
        except psycopg2.OperationalError:
            return False
        return sorted(states) == [("async",), ("sync",)]

    def await_unhealthy(self) -> None:
        """Wait until Patroni has detected the fault."""
        eventually(lambda: not self.is_well(), HEALED_S, "Patroni did not detect the fault")

    def await_healthy(self) -> None:
        """Wait until the cluster is healthy again."""
        eventually(self.is_well, HEALED_S, "the cluster did not recover")

    def leader(self) -> DatabaseHost:
        """Return the host of the primary."""
        return self._with_role("leader")

    def synchronous_standby(self) -> DatabaseHost:
        """Return the host of the synchronous standby."""
        return self._with_role("sync_standby")

    def etcd_leader(self) -> DatabaseHost:
        """Return the host of etcd's leader."""
        leaders = eventually(lambda: [host for host in self.hosts if host.leads_etcd()], HEALED_S, "etcd has no leader")
        return leaders[0]

    def _with_role(self, role: str) -> DatabaseHost:
        names = eventually(
            lambda: [name for name, each in self.roles().items() if each == role], HEALED_S, f"no {role}"
        )
        return next(host for host in self.hosts if host.name == names[0])


def _execute(url: str, sql: str, parameters: object = None) -> Rows:
    with closing(psycopg2.connect(url, target_session_attrs="read-write", connect_timeout=2)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []


def _request(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - hosts of this cluster
    with urllib.request.urlopen(request, timeout=3) as response:  # noqa: S310 - the same
        text = response.read()
    with suppress(ValueError):
        return json.loads(text)
    return os.fsdecode(text)
