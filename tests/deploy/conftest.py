"""Two instances on one database, which whole modules share; each test finds both running."""

import os
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.chaos.service import Service, migrate

INSTANCE = {
    "WORKERS": "1",
    "TRUSTED_PROXIES": "127.0.0.1",
    "SECRET_KEY": secrets.token_hex(32),
    "PASSWORD_SECRET": secrets.token_hex(32),
}
"""Settings of every instance: passwords that one issues open at the other."""

if not Path("/proc/self/stat").exists():
    collect_ignore_glob = ["test_*"]  # servers are Linux, and freezing trees of processes needs it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All in here starts what a server has and a laptop may lack."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("deploy")


class Database:
    """A database of its own on the tests' server; what it holds is seen past the service."""

    def __init__(self, server: str, name: str) -> None:
        self._server = server
        self.name = f"{name}_{os.getpid()}"
        self.url = f"{server.rpartition('/')[0]}/{self.name}"

    def create(self, owner: str | None = "default") -> "Database":
        """Make it, empty."""
        execute(self._server, f"drop database if exists {self.name} with (force)")
        execute(self._server, f"create database {self.name} owner {owner}")
        return self

    def drop(self) -> None:
        """Lose it with everybody who looks at it."""
        execute(self._server, f"drop database if exists {self.name} with (force)")

    def ask(self, sql: str, parameters: object = None) -> list[tuple[object, ...]]:
        """Return the rows of one statement."""
        return execute(self.url, sql, parameters)


def execute(url: str, sql: str, parameters: object = None) -> list[tuple[object, ...]]:
    """Return the rows of one statement, in a session of its own."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)  # type: ignore[arg-type]  # only dicts and sequences come
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def database(postgres_url: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """The database of a module, with the newest tables, or with those of its REVISION."""
    database = Database(postgres_url, request.module.__name__.rpartition(".")[2]).create()
    migrate(database.url, getattr(request.module, "REVISION", "head"))
    yield database
    database.drop()


@pytest.fixture(scope="module")
def shared_instances(database: Database) -> Iterator[list[Service]]:
    """Two instances that trust the proxy on this machine."""
    instances = [Service(database.url, **INSTANCE).launch() for _ in range(2)]
    for instance in instances:
        instance.await_start()
    yield instances
    for instance in instances:
        if instance.is_running():
            instance.term()  # a process that is killed leaves no coverage
        instance.close()


@pytest.fixture
def instances(shared_instances: list[Service]) -> Iterator[list[Service]]:
    """Both instances, running."""
    down = [instance for instance in shared_instances if not instance.is_running()]
    for instance in down:
        instance.launch()
    for instance in down:
        instance.await_start()
    yield shared_instances
    for instance in shared_instances:
        if instance.is_running():
            instance.thaw()
