"""Two database roles (S68).

The application role can do all the service needs, and nothing else.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import flask_migrate
import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg2.errors import InsufficientPrivilege

from config import Config
from project import create_app
from project.queries.aggregates import aggregate_attempts
from project.queries.maintenance import delete_expired_keys
from project.runtime import Runtime, get_runtime
from project.services import attempts
from project.spool import Spool
from tests.builders import ANNA, IVAN, csrf_token, log_in, useradd
from tests.conftest import MakeApp, Roles, administer, drop_roles, make_roles

CHOSEN = "lorem-ipsum-korova-77"


@pytest.fixture(scope="module")
def fresh(postgres_url: str) -> Iterator[Roles]:
    """The two roles in a new database, created before the first migration."""
    url = f"{postgres_url}_roles"
    administer(postgres_url, f"create database {url.rpartition('/')[2]}")
    yield make_roles(url)
    drop_roles(url)
    administer(postgres_url, f"drop database {url.rpartition('/')[2]} with (force)")


@pytest.fixture(scope="module")
def service(fresh: Roles, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """A service whose tables belong to one role and whose requests use another one."""
    app = create_app(
        replace(
            config,
            database_url=with_driver(fresh.app),
            migrations_database_url=with_driver(fresh.owner),
            data_dir=tmp_path_factory.mktemp("data"),
        )
    )
    with app.app_context():
        flask_migrate.upgrade()
    yield app
    get_runtime(app).stop()
    with app.app_context():
        for engine in app.extensions["sqlalchemy"].engines.values():
            engine.dispose()


def with_driver(url: str) -> str:
    """Return an address with the driver name, as the settings have it."""
    return url.replace("postgresql://", "postgresql+psycopg2://")


@pytest.fixture
def service_runtime(service: Flask) -> Iterator[Runtime]:
    """The runtime of that service, inside its application context."""
    with service.app_context():
        yield get_runtime(service)


@pytest.fixture(scope="module")
def administrator(service: Flask, fresh: Roles) -> FlaskClient:
    """The browser of an administrator of that service."""
    client = service.test_client()
    issued = useradd(client, IVAN).json
    assert issued is not None
    administer(fresh.app, "update users set is_admin = true")
    assert log_in(client, issued["login"], issued["password"]).status_code == 302
    return client


def post(client: FlaskClient, address: str, **form: str) -> int:
    """Fill in and send the form of a page."""
    return client.post(address, data=form | {"csrf_token": csrf_token(client.get(address).text)}).status_code


def test_users_are_created_refused_and_replayed(service: Flask) -> None:
    client = service.test_client()
    key = {"Idempotency-Key": "0f8fad5b-d9cb-469f-a165-70867728950e"}

    found = [useradd(client, body, headers=key).status_code for body in (ANNA, ANNA, IVAN)]

    assert found == [201, 201, 422]
    assert useradd(client, ANNA).status_code == 409
    assert client.post("/useradd", data=b"{").status_code == 415


@pytest.mark.parametrize(
    "address",
    [
        "/results/",
        "/results/?q=petrov",
        "/results/export.txt",
        "/results/export.csv",
        "/results/export.xlsx",
        "/api/v1/stats/",
        "/api/v1/attempts/",
        "/account/",
        "/admin/",
        "/admin/users/",
        "/admin/api-keys/",
    ],
)
def test_every_page_and_file_can_be_read(administrator: FlaskClient, address: str) -> None:
    with administrator.get(address) as response:
        assert response.status_code == 200
        assert response.data


def test_administrators_can_make_all_changes(administrator: FlaskClient, service: Flask) -> None:
    other = useradd(service.test_client(), {"name": "Другой", "username": "other", "email": "o@example.org"}).json
    assert other is not None
    address = f"/admin/users/{other['user']['id']}"

    actions = ("block", "unblock", "grant", "withdraw", "reset")
    found = [post(administrator, f"{address}/{action}/") for action in actions]

    assert found == [302] * 5
    assert post(administrator, "/admin/api-keys/new/", name="crm") == 302


def test_a_user_changes_the_password_and_logs_out(service: Flask) -> None:
    client = service.test_client()
    issued = useradd(client, {"name": "Третий", "username": "third", "email": "third@example.org"}).json
    assert issued is not None
    log_in(client, issued["login"], issued["password"])

    assert post(client, "/account/", current=issued["password"], new=CHOSEN, confirmation=CHOSEN) == 302
    token = csrf_token(client.get("/account/").text)
    assert client.post("/logout/", data={"csrf_token": token}).status_code == 302


def test_attempts_are_drained_aggregated_and_pruned(
    service_runtime: Runtime, service: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "_try_insert", lambda *_: False)
    useradd(service.test_client(), {})

    delivery = attempts.Delivery(service_runtime.database)
    assert service_runtime.spool.has_records() or delivery.drain(service_runtime.spool) == 0
    delivery.drain(service_runtime.spool)
    assert delivery.drain_orphans(Spool(tmp_path / "spool")) == 0
    assert service_runtime.database.write_transaction(aggregate_attempts, 1, 10_000).remaining == 0
    assert service_runtime.database.write_transaction(delete_expired_keys, 10).rows == 0
    assert attempts.prune_all(service_runtime.database, timedelta()) > 0


@pytest.mark.parametrize(
    "statement",
    [
        "drop table users",
        "drop function shown_login",
        "alter table users add column spy text",
        "alter table users disable trigger all",
        "truncate attempts",
        "create table loot (stolen text)",
        "create temporary table loot (stolen text)",
        "create schema theirs",
        "create index theirs on users (name)",
        "create function theirs() returns integer language sql as 'select 1'",
        "create or replace view theirs as select 1",
        "create extension pg_trgm",
        "create role another",
        "alter role current_user superuser",
        "copy users to '/tmp/loot'",
        "copy users from program 'id'",
        "select pg_read_file('/etc/passwd')",
        "select rolpassword from pg_authid",
        "comment on table users is 'theirs'",
    ],
)
def test_the_application_role_cannot_change_anything_else(service: Flask, fresh: Roles, statement: str) -> None:
    with pytest.raises(InsufficientPrivilege):
        administer(fresh.app, statement)


def test_the_application_role_cannot_become_the_owner(service: Flask, fresh: Roles) -> None:
    owner = fresh.owner.partition("//")[2].partition(":")[0]

    with pytest.raises(InsufficientPrivilege):
        administer(fresh.app, f"set role {owner}")


def test_tables_of_later_migrations_are_readable_and_writable(service: Flask, fresh: Roles) -> None:
    administer(fresh.owner, "create table later (id bigserial primary key, what text)")
    try:
        administer(fresh.app, "insert into later (what) values ('row')")
        assert _select_value(fresh.app, "select count(*) from later") == 1
        with pytest.raises(InsufficientPrivilege):
            administer(fresh.app, "drop table later")
    finally:
        administer(fresh.owner, "drop table later")


def test_running_the_roles_script_again_changes_nothing(service: Flask, fresh: Roles, postgres_url: str) -> None:
    grants = (
        "select string_agg(relname || relacl::text, ' ' order by relname) from pg_class where relkind in ('r', 'S')"
    )
    before = _select_value(fresh.owner, grants)

    make_roles(f"{postgres_url}_roles")

    assert _select_value(fresh.owner, grants) == before


def test_existing_tables_are_given_to_the_owner_role(roles: Roles, make_app: MakeApp, client: FlaskClient) -> None:
    app = make_app(database_url=with_driver(roles.app), migrations_database_url=with_driver(roles.owner))
    with app.app_context():
        flask_migrate.downgrade(revision="-2")
        flask_migrate.upgrade()

    assert useradd(app.test_client(), ANNA).status_code == 201


def _select_value(url: str, sql: str) -> Any:
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            [[found]] = cursor.fetchall()
            return found
    finally:
        connection.close()
