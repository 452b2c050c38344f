"""Migrations build what the models describe, can be taken back, and stand on their own."""

import ast
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import flask_migrate
import psycopg2
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from sqlalchemy import text

from config import Config
from project import create_app
from project.extensions import db
from project.models import Base

VERSIONS = sorted((Path(__file__).parents[2] / "migrations" / "versions").glob("*.py"))
THINGS = text("""
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
"""Everything that migrations make, but for the table in which Alembic keeps the revision."""


@pytest.fixture
def empty_app(config: Config, postgres_url: str, tmp_path: Path) -> Iterator[Flask]:
    """The service on a database of its own that has no tables."""
    name = f"migrations_{os.getpid()}"
    with _server(postgres_url) as server:
        server.execute(f"drop database if exists {name}")
        server.execute(f"create database {name}")
    url = f"postgresql+psycopg2://{postgres_url.partition('://')[2].rpartition('/')[0]}/{name}"
    app = create_app(replace(config, database_url=url, data_dir=tmp_path))
    with app.app_context():
        yield app
        for engine in db.engines.values():
            engine.dispose()
    with _server(postgres_url) as server:
        server.execute(f"drop database {name} with (force)")


def test_migrations_build_what_the_models_describe(app: Flask) -> None:
    with app.app_context(), db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})

        assert compare_metadata(context, Base.metadata) == []


def test_migrations_go_up_down_and_up_again(empty_app: Flask) -> None:
    flask_migrate.upgrade()
    first = _things()

    flask_migrate.downgrade(revision="base")
    left = _things()
    flask_migrate.upgrade()

    assert {kind for kind, *_ in first} == {"table", "constraint", "function"}
    assert left == set()
    assert _things() == first


def test_every_step_back_can_be_taken_by_itself(empty_app: Flask) -> None:
    flask_migrate.upgrade()

    for _ in VERSIONS:
        whole = _things()
        flask_migrate.downgrade(revision="-1")
        flask_migrate.upgrade(revision="+1")
        assert _things() == whole
        flask_migrate.downgrade(revision="-1")

    assert _things() == set()


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_migrations_import_nothing_of_the_project(path: Path) -> None:
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    named = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "." for node in imports if isinstance(node, ast.ImportFrom)}

    assert {name.partition(".")[0] for name in named} <= {"alembic", "pathlib", "sqlalchemy"}


def test_migrations_are_one_line_in_the_order_of_their_numbers() -> None:
    steps = [_step(path) for path in VERSIONS]

    numbers = [path.name.partition("_")[0] for path in VERSIONS]

    assert numbers == [f"{number:04}" for number in range(1, len(VERSIONS) + 1)]
    assert steps == list(zip(numbers, [None, *numbers], strict=False))


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_migrations_say_what_they_do(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


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


def _things() -> set[tuple[str, ...]]:
    with db.engine.connect() as connection:
        return {tuple(row) for row in connection.execute(THINGS)}


@contextmanager
def _server(url: str) -> Iterator[psycopg2.extensions.cursor]:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()
