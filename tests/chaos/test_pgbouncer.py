"""F47 to F49: PgBouncer, configured by deploy/pgbouncer.ini, before PostgreSQL."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest

from project import CONNECT_ARGS
from project.embedded.data_directory import DATABASE_NAME
from tests.chaos.invariants import check_invariants
from tests.chaos.load import Client, burst, summarize
from tests.chaos.postgres import Postgres
from tests.chaos.processes import HOST, eventually, find_program, free_port
from tests.chaos.service import Service

INI = Path(__file__).parents[2] / "deploy" / "pgbouncer.ini"
NOBODY = 65534
"""User and group ID: PgBouncer does not run as root."""
POOL_SIZE = 3
"""Connections of PgBouncer to PostgreSQL: fewer than of the service, so that clients share sessions."""


class PgBouncer:
    """A PgBouncer process on a fixed port, whose files are in `folder`."""

    def __init__(self, postgres: Postgres, folder: Path) -> None:
        shutil.chown(folder, NOBODY, NOBODY)
        self.port = free_port()
        password = urlsplit(postgres.url()).password
        users = folder / "users.txt"
        users.write_text(f'"{DATABASE_NAME}" "{password}"\n')
        values = {"ADDRESS": HOST, "PORT": self.port, "USERLIST": users}
        values |= {"POSTGRES_HOST": HOST, "POSTGRES_PORT": postgres.port}
        ini = folder / "pgbouncer.ini"
        ini.write_text(re.sub("default_pool_size = .*", f"default_pool_size = {POOL_SIZE}", filled_in(values)))
        for path in (users, ini):
            shutil.chown(path, NOBODY, NOBODY)
        self.direct, self.url = postgres.url(), postgres.url(port=self.port)
        log = folder / "pgbouncer.log"
        with log.open("ab") as file:
            command = [str(find_program("pgbouncer")), str(ini)]
            self._process = subprocess.Popen(command, user=NOBODY, group=NOBODY, extra_groups=[], stderr=file)
        try:
            eventually(self._answers, 30, "PgBouncer does not respond")
        except AssertionError as error:
            self.close()
            raise AssertionError(f"{error}: {log.read_text()}") from error

    def fetch_row(self, sql: str) -> tuple[Any, ...]:
        """Return the only row of a query."""
        with closing(psycopg2.connect(self.url)) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            [row] = cursor.fetchall()
            return row

    def _answers(self) -> bool:
        try:
            return self.fetch_row("select 1") == (1,)
        except psycopg2.OperationalError:
            return False

    def close(self) -> None:
        """Kill the process."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def filled_in(values: dict[str, object]) -> str:
    """Return deploy/pgbouncer.ini with its `${NAMES}` replaced, as envsubst does."""
    return Template(INI.read_text()).substitute(values)


@pytest.fixture(scope="module")
def postgres(template: Postgres) -> Iterator[Postgres]:
    """A server for this module only, because PgBouncer keeps sessions open."""
    postgres = Postgres(template).start()
    yield postgres
    postgres.close()


@pytest.fixture(scope="module")
def pgbouncer(postgres: Postgres) -> Iterator[PgBouncer]:
    """PgBouncer in transaction mode. Skips the tests without PgBouncer or root."""
    if not find_program("pgbouncer") or os.geteuid() != 0:
        pytest.skip("needs root and PgBouncer (Debian: apt install pgbouncer)")
    with TemporaryDirectory() as folder, closing(PgBouncer(postgres, Path(folder))) as pgbouncer:
        yield pgbouncer


@pytest.fixture(scope="module")
def service(pgbouncer: PgBouncer) -> Iterator[Service]:
    """A service of two workers, configured as without PgBouncer."""
    service = Service(pgbouncer.url, WORKERS="2").start()
    yield service
    service.terminate()
    service.close()


def test_pgbouncer_sets_the_session_settings_of_the_service(pgbouncer: PgBouncer) -> None:
    names = re.findall(r"-c (\w+)=", str(CONNECT_ARGS["options"]))
    query = f"select {', '.join(f'current_setting({name!r})' for name in names)}"
    arguments: Any = CONNECT_ARGS | {"dsn": pgbouncer.direct}

    with closing(psycopg2.connect(**arguments)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        [direct] = cursor.fetchall()

    assert pgbouncer.fetch_row(query) == direct


def test_the_service_works_through_pgbouncer(service: Service, postgres: Postgres, pgbouncer: PgBouncer) -> None:
    answers = burst(service, requests=120, parallel=12)
    with closing(Client(service)) as client:
        again = [client.repeat(answer) for answer in answers[:5]]
        refused = client.post({**answers[0].sent, "name": "Another"}, key="")
        opened = client.log_in(answers[0].json["login"], answers[0].json["password"])
        pages = [client.get(path) for path in ("/results/", "/results/export.csv", "/api/v1/stats/")]

    assert {answer.code for answer in answers} == {"created"}, summarize(answers)
    assert [answer.code for answer in again] == ["replayed"] * 5
    assert (refused.status, opened) == (409, True)
    assert [status for status, _ in pages] == [200, 200, 200]
    assert pages[1][1].count(answers[0].sent["username"]) >= 1
    assert len(postgres.backends("useradd")) <= POOL_SIZE
    check_invariants(postgres, service, [*answers, *again, refused])


def test_the_service_recovers_when_postgres_restarts_behind_pgbouncer(service: Service, postgres: Postgres) -> None:
    with closing(Client(service)) as client:
        postgres.restart()
        eventually(lambda: client.create().status == 201, 15, "the service does not recover")
