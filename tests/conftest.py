"""A PostgreSQL of the tests' own, built by the real migrations; every test starts with empty tables."""

import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import flask_migrate
import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, text

from config import Config
from project import create_app
from project.database import Database
from project.embedded import ensure
from project.runtime import Runtime, get_runtime
from project.services import attempts
from tests.builders import IVAN, log_in, useradd

ROOT = Path(__file__).parents[1]
Row = dict[str, Any]
MakeApp = Callable[..., Flask]
UNSAFE = ("alter system set fsync = off", "alter system set full_page_writes = off", "select pg_reload_conf()")
"""Makes a server fast that may lose everything with the machine: no test takes that away, and those of tests/chaos,
which fill disks and break them, have servers of their own."""
TABLES = ("users", "identifiers", "idempotency_keys", "attempts", "attempt_counts", "api_keys")


def pytest_collection_finish() -> None:
    """Look for garbage only in what tests leave: to look at all that was imported, too, takes an eighth of the time."""
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """An empty database of this run's own.

    It lives on a server of the tests': the embedded one, or the one whose programs TEST_POSTGRES_BIN names. Several
    runs at once share it, each with its database; the next run finds it where this one left it.
    """
    programs = os.environ.get("TEST_POSTGRES_BIN")
    home = ROOT / ".postgres-for-tests" / (programs.strip("/").replace("/", "-") if programs else "embedded")
    server = ensure(home, bin_dir=Path(programs) if programs else None)
    for statement in UNSAFE:
        administer(server, statement)
    name = f"test_{os.getpid()}"
    administer(server, f"create database {name}")
    yield f"{server.rpartition('/')[0]}/{name}"
    administer(server, f"drop database {name} with (force)")


def administer(server: str, statement: str) -> None:
    """Run statements in a database past the service."""
    connection = psycopg2.connect(server)
    connection.autocommit = True
    connection.cursor().execute(statement)
    connection.close()


@pytest.fixture(scope="session")
def config(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Settings as a newcomer has them, but for the database, and without limits: all tests have one address."""
    data_dir = str(tmp_path_factory.mktemp("data"))
    environment = {"DATABASE_URL": postgres_url, "DATA_DIR": data_dir, "RATELIMIT_ENABLED": "0"}
    return Config.from_environment(environment)


@pytest.fixture(scope="session")
def app(config: Config) -> Iterator[Flask]:
    """The service with its tables. Nothing happens in its background: a test that wants a round of upkeep makes one."""
    app = create_app(config)
    get_runtime(app).upkeep.ensure_running = lambda: None  # type: ignore[method-assign]
    with app.app_context():
        flask_migrate.upgrade()
    yield app
    get_runtime(app).stop()


@pytest.fixture
def make_app(config: Config) -> Iterator[MakeApp]:
    """Makes the service once more, with other settings, and stops all that it made when the test is over."""
    yield from _make_app(config)


@pytest.fixture(scope="module")
def make_app_once(config: Config) -> Iterator[MakeApp]:
    """The same for what a whole module shares."""
    yield from _make_app(config)


def _make_app(config: Config) -> Iterator[MakeApp]:
    made = []

    def make(**changes: Any) -> Flask:
        made.append(create_app(replace(config, **changes)))
        return made[-1]

    yield make
    for app in made:
        get_runtime(app).stop()


class Roles(NamedTuple):
    """Addresses of one database by the two roles of deploy/roles.sql."""

    app: str
    owner: str


def make_roles(url: str) -> Roles:
    """Run deploy/roles.sql in a database, with names of this run's own: roles belong to the whole server."""
    server, _, database = url.rpartition("/")
    names = {"useradd_app": f"app_{database}", "useradd_owner": f"owner_{database}"}
    script = (ROOT / "deploy" / "roles.sql").read_text()
    for name, ours in names.items():
        script = script.replace(name, ours) + f"alter role {ours} password 'secret-of-{ours}';"
    administer(url, script)
    scheme, _, address = server.partition("://")
    host = address.rpartition("@")[2]
    return Roles(*(f"{scheme}://{ours}:secret-of-{ours}@{host}/{database}" for ours in names.values()))


def drop_roles(url: str) -> None:
    """Undo make_roles(), but for what it took from everybody."""
    app, owner = (f"{kind}_{url.rpartition('/')[2]}" for kind in ("app", "owner"))
    administer(
        url, f"reassign owned by {owner} to current_user; drop owned by {app}, {owner}; drop role {app}, {owner}"
    )


@pytest.fixture(scope="session")
def roles(app: Flask, postgres_url: str) -> Iterator[Roles]:
    """The two roles, in the database of all tests, whose tables they were given afterwards."""
    yield make_roles(postgres_url)
    drop_roles(postgres_url)


def begin_anew(app: Flask) -> None:
    """Forget what an earlier test did to the service: outages, what is on its disk, what is in its tables."""
    runtime = get_runtime(app)
    with app.app_context():
        for way in (runtime.database, runtime.read_database):
            way.breaker.close()
        runtime.api_keys.clear_cache()
        attempts.drain(runtime.database, runtime.spool)
        runtime.database.write_transaction(_empty)


@pytest.fixture
def runtime(app: Flask) -> Iterator[Runtime]:
    """The parts that use cases take, inside an application context, on empty tables."""
    with app.app_context():
        begin_anew(app)
        yield get_runtime(app)


@pytest.fixture
def database(runtime: Runtime) -> Database:
    """The way to PostgreSQL, on empty tables."""
    return runtime.database


@pytest.fixture
def client(app: Flask) -> Iterator[FlaskClient]:
    """A stranger's browser or program, on empty tables. No context of the test's own lies around its requests."""
    begin_anew(app)
    with app.test_client() as client:
        yield client


@pytest.fixture
def reader(client: FlaskClient) -> FlaskClient:
    """The browser of a user who has just been created and has logged in."""
    credentials = useradd(client, IVAN).json
    assert credentials is not None
    assert log_in(client, credentials["login"], credentials["password"]).status_code == 302
    return client


@pytest.fixture
def administrator(reader: FlaskClient, app: Flask) -> FlaskClient:
    """The browser of an administrator who has logged in."""
    Rows(app).ask("update users set is_admin = true")
    return reader


@pytest.fixture
def rows(app: Flask) -> "Rows":
    """Reads tables past the service, to see what is really kept."""
    return Rows(app)


class Rows:
    """The tables as they are."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def of(self, table: str, order: str = "1") -> list[Row]:
        """Return all rows of a table."""
        return self.ask(f"select * from {table} order by {order}")  # noqa: S608 - names of our own

    def ask(self, question: str, **values: object) -> list[Row]:
        """Return the answer to an SQL question."""
        with self._app.app_context():
            return get_runtime(self._app).database.write_transaction(_ask, question, values)

    def attempts(self) -> list[Row]:
        """Return all attempts in the order in which they were recorded."""
        return self.of("attempts", order="seq")

    def ends(self) -> list[tuple[int, str]]:
        """Return status and code of all attempts."""
        return [(row["status"], row["code"]) for row in self.attempts()]


def _ask(connection: Connection, question: str, values: dict[str, object]) -> list[Row]:
    result = connection.execute(text(question), values)
    return [dict(row._mapping) for row in result] if result.returns_rows else []


def _empty(connection: Connection) -> None:
    connection.execute(text("; ".join(f"delete from {table}" for table in TABLES)))  # noqa: S608 - names of our own
    connection.execute(
        text(
            "update watermarks set seq = (select case when is_called then last_value else 0 end from attempts_seq_seq)"
        )
    )
