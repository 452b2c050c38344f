"""`flask shard`: what it asks Citus to do. There is no Citus here: functions of its names note how they are called."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import flask_migrate
import pytest
from click.testing import Result
from flask import Flask
from flask.cli import FlaskGroup

from config import Config
from project import create_app
from project.extensions import db
from project.queries import shards
from project.web.tools import tools
from tests.builders import IVAN, useradd
from tests.conftest import Rows, administer

Command = Callable[..., Result]
CITUS = """
    create table called (number bigint generated always as identity, name text, key text, colocate_with text);
    create function create_distributed_table(name regclass, key text, colocate_with text) returns void
        begin atomic insert into called (name, key, colocate_with) values (name, key, colocate_with); end;
    create view citus_tables as select name::regclass as table_name from called;
    insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
         values (1, 'citus', 10, 11, false, '0');
"""


@pytest.fixture(scope="module")
def app(config: Config) -> Iterator[Flask]:
    """A service on a database of its own: what is spread stays spread."""
    assert config.database_url
    server, _, name = config.database_url.replace("+psycopg2", "").rpartition("/")
    administer(f"{server}/{name}", f"create database {name}_shards")
    app = create_app(replace(config, database_url=f"{config.database_url}_shards"))
    with app.app_context():
        flask_migrate.upgrade()
    yield app
    tools(app).stop()
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()
    administer(f"{server}/{name}", f"drop database {name}_shards with (force)")


@pytest.fixture(scope="module")
def shard(app: Flask) -> Command:
    """Runs `flask shard`."""
    group = FlaskGroup(create_app=lambda: app, load_dotenv=False)
    return lambda *arguments, **kwargs: app.test_cli_runner().invoke(group, ["shard", *arguments], **kwargs)


def test_without_citus_it_says_what_to_do_and_changes_nothing(app: Flask, shard: Command) -> None:
    result = shard("--yes")

    assert result.exit_code == 1
    assert "create extension citus" in result.output
    assert Rows(app).ask("select count(*) as n from pg_constraint where conname = 'attempts_seq_key'") == [{"n": 1}]


def test_it_asks_before_it_does_what_has_no_way_back(app: Flask, shard: Command) -> None:
    Rows(app).ask("set local allow_system_table_mods = on; " + CITUS)

    result = shard(input="n\n")

    assert result.exit_code == 1
    assert "ATTEMPTS_KEEP_DAYS=0" in result.output
    assert Rows(app).of("called") == []


def test_it_spreads_what_grows_a_user_beside_its_attempt_and_only_once(app: Flask, shard: Command) -> None:
    first, again = shard("--yes"), shard("--yes")

    assert (first.exit_code, again.exit_code) == (0, 0), first.output
    assert "already" in again.output
    called = [(row["name"], row["key"], row["colocate_with"]) for row in Rows(app).of("called")]
    assert called == [
        ("attempts", "id", "none"),
        ("users", "id", "attempts"),
        ("identifiers", "value", "none"),
    ]


def test_every_guard_of_a_spread_table_holds_its_key(app: Flask) -> None:
    """Citus refuses a unique constraint, or a foreign key, without the column that says where a row lies."""
    guards = Rows(app).ask(
        """
        select c.conrelid::regclass::text as table, array_agg(a.attname::text) as columns
          from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any(c.conkey)
         where c.contype in ('p', 'u', 'f') and c.conrelid::regclass::text = any(:tables)
         group by c.oid, c.conrelid
        """,
        tables=list(shards.SPREAD),
    )

    assert {guard["table"] for guard in guards} == shards.SPREAD.keys()
    assert all(shards.SPREAD[guard["table"]] in guard["columns"] for guard in guards)


def test_the_service_creates_users_on_the_tables_as_they_are_then(app: Flask) -> None:
    assert useradd(app.test_client(), IVAN).status_code == 201
