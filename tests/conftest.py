"""Fixtures: a test database built by the migrations; every test starts with empty tables."""

import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import flask_migrate
import hypothesis
import psycopg2
import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, text

from config import Config
from project import create_app
from project.database import Database
from project.domain import passwords
from project.embedded import ensure_running
from project.runtime import Runtime, get_runtime
from project.services.attempts import Delivery
from tests.builders import IVAN, log_in, useradd

ROOT = Path(__file__).parents[1]
Row = dict[str, Any]
MakeApp = Callable[..., Flask]
UNSAFE_SETTINGS = ("alter system set fsync = off", "alter system set full_page_writes = off", "select pg_reload_conf()")
"""Make a server fast whose data may be lost. tests/chaos, which kills servers and fills disks, has its own servers."""
TABLES = (
    *("import_rows", "imports", "users", "identifiers", "idempotency_keys", "attempts", "attempt_counts", "api_keys"),
    "audit_log",
)


ARGON2 = passwords._argon2
hypothesis.settings.register_profile("fast", max_examples=10)


@pytest.fixture(scope="session", autouse=True)
def fast_argon2() -> Iterator[None]:
    """Make hashes of chosen passwords cheap: real ones take 30 ms, and tests make thousands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_argon2", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        yield


@pytest.fixture
def real_argon2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash chosen passwords as the service does."""
    monkeypatch.setattr(passwords, "_argon2", ARGON2)


def pytest_collection_finish() -> None:
    """Exclude imported objects from garbage collection.

    Traversing them takes an eighth of the time of a test run.
    """
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Yield the URL of an empty database, which is dropped after the run.

    The server is started from the programs in TEST_POSTGRES_BIN, by default those of the embedded PostgreSQL.
    Concurrent and later runs use the same server.
    """
    programs = os.environ.get("TEST_POSTGRES_BIN")
    home = ROOT / ".postgres-for-tests" / (programs.strip("/").replace("/", "-") if programs else "embedded")
    server = ensure_running(home, bin_dir=Path(programs) if programs else None)
    for statement in UNSAFE_SETTINGS:
        administer(server, statement)
    name = f"test_{os.getpid()}"
    administer(server, f"create database {name}")
    yield f"{server.rpartition('/')[0]}/{name}"
    administer(server, f"drop database {name} with (force)")


def administer(server: str, statement: str) -> None:
    """Run a statement in a database directly, not through the service."""
    connection = psycopg2.connect(server)
    connection.autocommit = True
    connection.cursor().execute(statement)
    connection.close()


@pytest.fixture(scope="session")
def config(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Return default settings with the test database and without rate limits.

    Without limits, because all tests have the same client address.
    """
    data_dir = str(tmp_path_factory.mktemp("data"))
    environment = {"DATABASE_URL": postgres_url, "DATA_DIR": data_dir, "RATELIMIT_ENABLED": "0"}
    return Config.from_environment(environment)


@pytest.fixture(scope="session")
def app(config: Config) -> Iterator[Flask]:
    """Yield the application with its tables but no upkeep thread: tests run upkeep themselves."""
    app = create_app(config)
    get_runtime(app).upkeep.ensure_running = lambda: None  # type: ignore[method-assign]
    with app.app_context():
        flask_migrate.upgrade()
    yield app
    get_runtime(app).stop()


@pytest.fixture
def make_app(config: Config) -> Iterator[MakeApp]:
    """Yield a function that creates applications with other settings; stop them after the test."""
    yield from _make_app(config)


@pytest.fixture(scope="module")
def make_app_once(config: Config) -> Iterator[MakeApp]:
    """Yield a function like make_app, for module-scoped fixtures."""
    yield from _make_app(config)


def _make_app(config: Config) -> Iterator[MakeApp]:
    apps: list[Flask] = []

    def make(**changes: Any) -> Flask:
        apps.append(create_app(replace(config, **changes)))
        return apps[-1]

    yield make
    for app in apps:
        get_runtime(app).stop()


class Roles(NamedTuple):
    """Addresses of a database with the two roles of deploy/roles.sql."""

    app: str
    owner: str


def make_roles(url: str) -> Roles:
    """Run deploy/roles.sql in a database with role names of this run.

    Roles belong to the whole server.
    """
    server, _, database = url.rpartition("/")
    names = {"useradd_app": f"app_{database}", "useradd_owner": f"owner_{database}"}
    script = (ROOT / "deploy" / "roles.sql").read_text()
    for name, role in names.items():
        script = script.replace(name, role) + f"alter role {role} password 'secret-of-{role}';"
    administer(url, script)
    scheme, _, address = server.partition("://")
    host = address.rpartition("@")[2]
    return Roles(*(f"{scheme}://{role}:secret-of-{role}@{host}/{database}" for role in names.values()))


def drop_roles(url: str) -> None:
    """Undo make_roles(), except for privileges revoked from PUBLIC."""
    app, owner = (f"{kind}_{url.rpartition('/')[2]}" for kind in ("app", "owner"))
    administer(
        url, f"reassign owned by {owner} to current_user; drop owned by {app}, {owner}; drop role {app}, {owner}"
    )


@pytest.fixture(scope="session")
def roles(app: Flask, postgres_url: str) -> Iterator[Roles]:
    """The two roles in the database of all tests, which owned its tables before."""
    yield make_roles(postgres_url)
    drop_roles(postgres_url)


def reset_service(app: Flask) -> None:
    """Undo the effects of earlier tests: close breakers, drain the spool, empty the tables."""
    runtime = get_runtime(app)
    with app.app_context():
        for database in (runtime.database, runtime.read_database):
            database.breaker.close()
        runtime.api_keys.clear_cache()
        Delivery(runtime.database).drain(runtime.spool)
        while runtime.activity.flush():
            pass
        runtime.database.write_transaction(_empty)


@pytest.fixture
def runtime(app: Flask) -> Iterator[Runtime]:
    """The runtime, inside an application context, on empty tables."""
    with app.app_context():
        reset_service(app)
        yield get_runtime(app)


@pytest.fixture
def database(runtime: Runtime) -> Database:
    """The database of the runtime, on empty tables."""
    return runtime.database


@pytest.fixture
def client(app: Flask) -> Iterator[FlaskClient]:
    """An anonymous client, on empty tables and outside of any application context."""
    reset_service(app)
    with app.test_client() as client:
        yield client


@pytest.fixture
def reader(client: FlaskClient) -> FlaskClient:
    """The browser of a new user who has logged in."""
    credentials = useradd(client, IVAN).json
    assert credentials is not None
    assert log_in(client, credentials["login"], credentials["password"]).status_code == 302
    return client


@pytest.fixture
def administrator(reader: FlaskClient, app: Flask) -> FlaskClient:
    """The browser of a logged-in administrator."""
    Rows(app).query("update users set is_admin = true")
    return reader


@pytest.fixture
def rows(app: Flask) -> "Rows":
    """Reads the tables directly."""
    return Rows(app)


class Rows:
    """Runs queries on the tables, independent of the use cases."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def of(self, table: str, order: str = "1") -> list[Row]:
        """Return all rows of a table."""
        return self.query(f"select * from {table} order by {order}")  # noqa: S608 - constant names

    def query(self, sql: str, **values: object) -> list[Row]:
        """Run a statement and return its rows."""
        with self._app.app_context():
            return get_runtime(self._app).database.write_transaction(_query, sql, values)

    def attempts(self) -> list[Row]:
        """Return all attempts in the order in which they were recorded."""
        return self.of("attempts", order="seq")

    def outcomes(self) -> list[tuple[int, str]]:
        """Return status and code of all attempts."""
        return [(row["status"], row["code"]) for row in self.attempts()]


def _query(connection: Connection, sql: str, values: dict[str, object]) -> list[Row]:
    result = connection.execute(text(sql), values)
    return [dict(row._mapping) for row in result] if result.returns_rows else []


def _empty(connection: Connection) -> None:
    # All tables are emptied: the checks of foreign keys, one query per row, would exceed the statement timeout.
    connection.execute(text("set local session_replication_role = replica"))
    connection.execute(text("; ".join(f"delete from {table}" for table in TABLES)))  # noqa: S608 - constant names
    connection.execute(
        text(
            "update watermarks set seq = (select case when is_called then last_value else 0 end from attempts_seq_seq)"
        )
    )
