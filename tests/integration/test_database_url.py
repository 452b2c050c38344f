"""Notations of DATABASE_URL, with a real server: each connects, nothing is ignored."""

from urllib.parse import quote

import pytest
from sqlalchemy import make_url, text

from config import Config
from project.runtime import get_runtime
from tests.conftest import MakeApp, administer


def find(make_app: MakeApp, url: str, query: str) -> object:
    """Return what a query returns in a service with this DATABASE_URL."""
    parsed = Config.from_environment({"DATABASE_URL": url, "SECRET_KEY": SECRET, "PASSWORD_SECRET": SECRET})
    database = get_runtime(make_app(database_url=parsed.database_url)).database
    return database.run_once(lambda connection: connection.execute(text(query)).scalar())


SECRET = "0123456789abcdef" * 2


@pytest.mark.parametrize("hosts", ["[::1]:1,{host}", "{host},[::1]:1", "%2Fnowhere:1,{host}"])
def test_ipv6_addresses_and_socket_directories_can_be_among_several_hosts(
    make_app: MakeApp, postgres_url: str, hosts: str
) -> None:
    before, _, rest = postgres_url.partition("@")
    host, _, database = rest.partition("/")

    assert find(make_app, f"{before}@{hosts.format(host=host)}/{database}", "select 42") == 42


def test_a_percent_encoded_socket_directory_is_used(make_app: MakeApp, postgres_url: str) -> None:
    url = make_url(postgres_url)
    directories = find(make_app, postgres_url, "show unix_socket_directories")
    if not directories:
        pytest.skip("the test server has no socket")
    folder = quote(str(directories).split(",")[0], safe="")
    address = f"postgresql://{url.username}:{url.password}@{folder}:{url.port}/{url.database}"

    assert find(make_app, address, "select inet_client_addr() is null")


@pytest.mark.parametrize(
    "options", ["-csearch_path=elsewhere", "-c%20search_path%3Delsewhere%20-cstatement_timeout%3D0"]
)
def test_options_of_the_url_are_used_but_do_not_override_ours(
    make_app: MakeApp, postgres_url: str, options: str
) -> None:
    found = find(
        make_app,
        f"{postgres_url}?options={options}&application_name=mine",
        "select concat_ws(' ', current_setting('search_path'), current_setting('statement_timeout'),"
        " current_setting('application_name'))",
    )

    assert found == "elsewhere 2s mine"


def test_the_connection_asks_for_utf8_whatever_role_database_and_environment_say(
    make_app: MakeApp, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F49: with another client encoding every attempt with a letter that it lacks failed."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    name = make_url(postgres_url).database
    administer(postgres_url, f"alter database {name} set client_encoding to 'LATIN1'")
    try:
        found = find(make_app, postgres_url, "select current_setting('client_encoding') || ' Иван'")
    finally:
        administer(postgres_url, f"alter database {name} reset client_encoding")

    assert found == "UTF8 Иван"
