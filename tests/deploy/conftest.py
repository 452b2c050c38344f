"""Two instances on one database, shared by the tests of a module.

Both run when a test begins.
"""

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
"""Settings of every instance; they share their secrets."""

if not Path("/proc/self/stat").exists():
    collect_ignore_glob = ["test_*"]  # freezing process trees needs Linux


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder: they need programs that a developer's machine may lack."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("deploy")


class Database:
    """A separate database on the tests' server, with direct access to its tables."""

    def __init__(self, server: str, name: str) -> None:
        self._server = server
        self.name = f"{name}_{os.getpid()}"
        self.url = f"{server.rpartition('/')[0]}/{self.name}"

    def create(self, owner: str | None = "default") -> "Database":
        """Create the database without tables."""
        execute(self._server, f"drop database if exists {self.name} with (force)")
        execute(self._server, f"create database {self.name} owner {owner}")
        return self

    def drop(self) -> None:
        """Drop the database and end its sessions."""
        execute(self._server, f"drop database if exists {self.name} with (force)")

    def execute(self, sql: str, parameters: object = None) -> list[tuple[object, ...]]:
        """Run one statement and return its rows."""
        return execute(self.url, sql, parameters)


def execute(url: str, sql: str, parameters: object = None) -> list[tuple[object, ...]]:
    """Run one statement in a new session and return its rows."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)  # type: ignore[arg-type]  # only dicts and sequences are passed
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def database(postgres_url: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """The database of a module, migrated to the newest revision or the module's REVISION."""
    database = Database(postgres_url, request.module.__name__.rpartition(".")[2]).create()
    migrate(database.url, getattr(request.module, "REVISION", "head"))
    yield database
    database.drop()


@pytest.fixture(scope="module")
def shared_instances(database: Database) -> Iterator[list[Service]]:
    """Two instances that trust a proxy on 127.0.0.1."""
    instances = [Service(database.url, **INSTANCE).launch() for _ in range(2)]
    for instance in instances:
        instance.await_start()
    yield instances
    for instance in instances:
        if instance.is_running():
            instance.terminate()  # a killed process writes no coverage data
        instance.close()


@pytest.fixture
def instances(shared_instances: list[Service]) -> Iterator[list[Service]]:
    """Both instances, running."""
    stopped = [instance for instance in shared_instances if not instance.is_running()]
    for instance in stopped:
        instance.launch()
    for instance in stopped:
        instance.await_start()
    yield shared_instances
    for instance in shared_instances:
        if instance.is_running():
            instance.thaw()
