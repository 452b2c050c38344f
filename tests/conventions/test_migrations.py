"""Migrations match the models, are reversible, and import nothing of the project."""

import ast
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import flask_migrate
import psycopg2
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.environment import EnvironmentContext
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from sqlalchemy import text

from project.extensions import db
from project.models import Base
from tests.conftest import MakeApp

pytestmark = pytest.mark.slow  # migrates up and down many times

VERSIONS = sorted((Path(__file__).parents[2] / "migrations" / "versions").glob("*.py"))
OBJECTS = text("""
    select 'table', c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
      from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     where c.relnamespace = 'public'::regnamespace and c.relname not like 'alembic_version%'
    union all
    select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
      from pg_constraint where connamespace = 'public'::regnamespace and conname not like 'alembic_version%'
    union all
    select 'function', proname, '', pg_get_functiondef(oid)
      from pg_proc where pronamespace = 'public'::regnamespace
""")
"""All schema objects that migrations create, except Alembic's own table."""

FIRST_RELEASE = "0005"
"""Before this revision, no installation had rows."""
FILES = text("""
    select relname, pg_relation_filenode(oid) from pg_class
     where relnamespace = 'public'::regnamespace and relkind = 'r'
       and relname not in ('alembic_version', 'attempt_counts', 'watermarks')
""")
"""Tables that requests write; only upkeep writes the aggregates."""
BLOCKED = text("""
    select distinct c.relname, s.seq_scan > 0 or s.idx_scan > 0
      from pg_locks l
      join pg_class c on c.oid = l.relation
      join pg_stat_xact_user_tables s on s.relid = c.oid
     where l.pid = pg_backend_pid()
       and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
""")
"""Tables on which this transaction blocks writers, and whether it has read them."""


@pytest.fixture
def empty_app(make_app: MakeApp, postgres_url: str, tmp_path: Path) -> Iterator[Flask]:
    """The service on a separate, empty database."""
    name = f"migrations_{os.getpid()}"
    with _server(postgres_url) as server:
        server.execute(f"drop database if exists {name}")
        server.execute(f"create database {name}")
    url = f"postgresql+psycopg2://{postgres_url.partition('://')[2].rpartition('/')[0]}/{name}"
    app = make_app(database_url=url, data_dir=tmp_path)
    with app.app_context():
        yield app
        for engine in db.engines.values():
            engine.dispose()
    with _server(postgres_url) as server:
        server.execute(f"drop database {name} with (force)")


def test_migrations_create_the_schema_of_the_models(app: Flask) -> None:
    with app.app_context(), db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})

        assert compare_metadata(context, Base.metadata) == []


def test_migrations_can_be_upgraded_downgraded_and_upgraded_again(empty_app: Flask) -> None:
    flask_migrate.upgrade()
    first = _objects()

    flask_migrate.downgrade(revision="base")
    left = _objects()
    flask_migrate.upgrade()

    assert {kind for kind, *_ in first} == {"table", "constraint", "function"}
    assert left == set()
    assert _objects() == first


def test_every_migration_can_be_downgraded_separately(empty_app: Flask) -> None:
    flask_migrate.upgrade()

    for _ in VERSIONS:
        before = _objects()
        flask_migrate.downgrade(revision="-1")
        flask_migrate.upgrade(revision="+1")
        assert _objects() == before
        flask_migrate.downgrade(revision="-1")

    assert _objects() == set()


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_migrations_import_nothing_of_the_project(path: Path) -> None:
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    named = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "." for node in imports if isinstance(node, ast.ImportFrom)}

    assert {name.partition(".")[0] for name in named} <= {"alembic", "pathlib", "sqlalchemy"}


def test_migrations_are_a_linear_history_in_numeric_order() -> None:
    steps = [_step(path) for path in VERSIONS]

    numbers = [path.name.partition("_")[0] for path in VERSIONS]

    assert numbers == [f"{number:04}" for number in range(1, len(VERSIONS) + 1)]
    assert steps == list(zip(numbers, [None, *numbers], strict=False))


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_every_migration_has_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


# --- While the service is running -------------------------------------------------------------------------------------


def test_migrations_block_writers_on_one_table_at_a_time_and_never_while_reading_it(empty_app: Flask) -> None:
    numbers = [path.name.partition("_")[0] for path in VERSIONS]

    blocked = {number: _blocked(VERSIONS[0].parents[1], number) for number in numbers}

    assert [number for number in numbers if number > FIRST_RELEASE and _is_long(blocked[number])] == []


@pytest.mark.parametrize(
    ("is_long", "statements"),
    [
        (False, ["alter table attempts add column colour text not null default 'red'"]),
        (False, ["alter table attempts add constraint c check (duration_ms > 0) not valid"]),
        (False, ["create table flags (user_id uuid references users)"]),
        (False, ["commit", "create index concurrently i on attempts (method)", "begin"]),
        (True, ["create index i on attempts (method)"]),
        (True, ["alter table attempts alter column duration_ms type bigint"]),
        (True, ["alter table attempts add column drawn double precision default random()"]),
        (True, ["alter table attempts add constraint c check (duration_ms > 0)"]),
        (True, ["alter table attempts alter column username set not null"]),
        (True, ["alter table users add column a text", "alter table attempts add column a text"]),
    ],
)
def test_a_migration_that_blocks_writers_for_longer_is_detected(
    empty_app: Flask, tmp_path: Path, is_long: bool, statements: list[str]
) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(VERSIONS[0].parents[1], folder, ignore=shutil.ignore_patterns("__pycache__"))
    body = "\n".join(f"    op.execute({statement!r})" for statement in statements)
    (folder / "versions" / "9999_more.py").write_text(
        f"from alembic import op\nrevision = '9999'\ndown_revision = '{VERSIONS[-1].name[:4]}'\n"
        f"def upgrade():\n{body}\n"
    )

    flask_migrate.upgrade()

    assert _is_long(_blocked(folder, "9999")) == is_long


def _is_long(tables: dict[str, bool]) -> bool:
    """Return whether writers may wait for more than one catalog change."""
    return len(tables) > 1 or any(tables.values())


def _blocked(folder: Path, number: str) -> dict[str, bool]:
    """Apply the next migration; return the tables on which it blocks writers.

    Also return whether it reads or rewrites them. New tables block nobody. Empty tables cannot show how long a
    migration takes, only what it does.
    """
    found: dict[str, bool] = {}
    config = AlembicConfig()
    config.set_main_option("script_location", str(folder))
    script = ScriptDirectory.from_config(config)
    with (
        db.engine.connect() as connection,
        ExitStack() as stack,
        EnvironmentContext(config, script, fn=lambda now, _: script._upgrade_revs(number, now)) as environment,
    ):
        stack.callback(connection.invalidate)  # the statistics of reads start at zero for each migration
        files: dict[str, int] = dict(connection.execute(FILES).all())
        connection.commit()

        def record(*_: Any, **__: Any) -> None:
            after: dict[str, int] = dict(connection.execute(FILES).all())
            blocked_tables = {name: is_read for name, is_read in connection.execute(BLOCKED) if name in files}
            found.update({name: is_read or after[name] != files[name] for name, is_read in blocked_tables.items()})

        environment.configure(connection=connection, transaction_per_migration=True, on_version_apply=record)
        with environment.begin_transaction():
            environment.run_migrations()
    return found


def _step(path: Path) -> tuple[object, object]:
    """Return the revision of a migration and the one before it."""
    values = {
        node.targets[0].id: node.value.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    return values["revision"], values["down_revision"]


def _objects() -> set[tuple[str, ...]]:
    with db.engine.connect() as connection:
        return {tuple(row) for row in connection.execute(OBJECTS)}


@contextmanager
def _server(url: str) -> Iterator[psycopg2.extensions.cursor]:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()
