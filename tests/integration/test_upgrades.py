"""A database of any earlier revision can be upgraded with its data.

The service works on it.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import flask_migrate
import psycopg2
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from project.extensions import db
from tests.builders import ANNA, IVAN, KEY, log_in, useradd
from tests.conftest import MakeApp

pytestmark = pytest.mark.slow
REVISIONS = [path.name[:4] for path in sorted((Path(__file__).parents[2] / "migrations" / "versions").glob("*.py"))]
FIXTURES = Path(__file__).parent / "revisions"
"""NNNN.sql: rows as the version with this migration wrote them."""
PASSWORD_SECRET = "0123456789abcdef" * 2
PASSWORD = "6p2nk-zyms4-bj8un-sp49s-wabeyt"
API_KEY = "useradd_srrjdn62gxdktiyh87gqszwp9k"
USERS, KEYS, FUNCTION, API_KEYS, FOLDED_EMAIL = "0002", "0003", "0004", "0009", "0016"
"""The revisions that introduced such rows."""
Rows = list[tuple[object, ...]]


class Databases:
    """A database for each revision, upgraded step by step and filled on the way."""

    def __init__(self, url: str, make_app: MakeApp) -> None:
        self._server = url
        self._make_app = make_app
        self.created: list[str] = []

    def url(self, revision: str) -> str:
        """Return the address of the database of a revision."""
        return f"{self._server.rpartition('/')[0]}/upgrade_{revision}_{os.getpid()}"

    def make(self) -> None:
        """Upgrade step by step, insert the rows of each step, and copy the database after each."""
        current = self.url("current")
        self._create(current)
        app = app_on(current, self._make_app)
        with app.app_context():
            for revision in REVISIONS:
                flask_migrate.upgrade(revision=revision)
                fixture = FIXTURES / f"{revision}.sql"
                if fixture.exists():
                    execute(current, fixture.read_text())
                for engine in db.engines.values():
                    engine.dispose()
                self._create(self.url(revision), template=current)

    def _create(self, url: str, template: str = "") -> None:
        like = f" template {template.rpartition('/')[2]}" if template else ""
        execute(self._server, f"drop database if exists {url.rpartition('/')[2]}")
        execute(self._server, f"create database {url.rpartition('/')[2]}{like}")
        self.created.append(url)

    def drop(self) -> None:
        """Drop all databases."""
        for url in self.created:
            execute(self._server, f"drop database {url.rpartition('/')[2]} with (force)")


def execute(url: str, sql: str) -> Rows:
    """Execute SQL and return the rows of the last statement."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []


def app_on(url: str, make_app: MakeApp) -> Flask:
    """Return the current service on a database."""
    url = url.replace("postgresql://", "postgresql+psycopg2://")
    return make_app(database_url=url, password_secret=PASSWORD_SECRET, attempts_keep_days=0)  # the rows are old


@pytest.fixture(scope="module")
def databases(postgres_url: str, make_app_once: MakeApp) -> Iterator[Databases]:
    """The databases of all revisions."""
    databases = Databases(postgres_url, make_app_once)
    databases.make()
    yield databases
    databases.drop()


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_upgrade_keeps_all_data_and_the_service_works(
    databases: Databases, make_app: MakeApp, revision: str
) -> None:
    url = databases.url(revision)
    attempts = execute(url, "select id, seq, received_at, status, code, errors, sent from attempts order by seq")
    users = execute(url, "select id, name, username, phone, email from users order by id") if revision >= USERS else []
    app = app_on(url, make_app)

    with app.app_context():
        flask_migrate.upgrade()
    client = app.test_client()

    assert (
        execute(url, "select id, seq, received_at, status, code, errors, sent from attempts order by seq") == attempts
    )
    assert execute(url, "select id, name, username, phone, email from users order by id") == users
    assert useradd(client, ANNA).status_code == 201
    if revision >= KEYS:
        replayed = useradd(client, IVAN, headers={"Idempotency-Key": KEY})
        assert replayed.headers["Idempotent-Replayed"] == "true"
        assert _json(replayed)["password"] == PASSWORD
    if revision >= USERS:
        clash = useradd(client, IVAN)
        assert [error["code"] for error in _json(clash)["errors"]] == ["username_taken", "phone_taken"]
        assert log_in(client, "petrov.ivan", PASSWORD).status_code == 302
        assert _counts(_json(client.get("/api/v1/stats/"))) == _counts_in_table(url)
        assert client.get("/results/?period=all").status_code == 200
    if revision >= FUNCTION:
        assert log_in(client, "olga@example.org", PASSWORD).status_code == 302
        assert client.get("/admin/").status_code == 200
    if revision >= API_KEYS:
        opened = app.test_client().get("/api/v1/stats/", headers={"Authorization": f"Bearer {API_KEY}"})
        assert opened.status_code == 200
    if revision >= FOLDED_EMAIL:
        clash = useradd(client, {"name": "N", "username": "another", "email": "User@xn--e1afmkfd.xn--p1ai"})
        assert [error["code"] for error in _json(clash)["errors"]] == ["email_taken"]


def test_the_upgraded_databases_have_rows_in_every_table(databases: Databases) -> None:
    url = databases.url(REVISIONS[-1])
    tables = execute(url, "select tablename from pg_tables where schemaname = 'public'")

    empty = [name for (name,) in tables if not execute(url, f"select 1 from {name} limit 1")]  # noqa: S608 - constant names

    assert empty == []


def _json(response: TestResponse) -> dict[str, Any]:
    found: dict[str, Any] = response.get_json(force=True)
    return found


def _counts(stats: dict[str, Any]) -> dict[object, object]:
    return {row["status"]: row["count"] for row in stats["by_status"]}


def _counts_in_table(url: str) -> dict[object, object]:
    return dict(execute(url, "select status, count(*)::int from attempts group by 1"))  # type: ignore[arg-type]
