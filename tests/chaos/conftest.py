"""One PostgreSQL, one proxy and one service for all chaos tests, restored after each.

Tests share the tables: every user is new, and a test checks its own answers and the invariants of all tables.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.load import Client
from tests.chaos.networks import Host
from tests.chaos.postgres import Postgres
from tests.chaos.processes import eventually
from tests.chaos.proxy import Proxy
from tests.chaos.service import Service, migrate

CONNECTIONS_TO_REACH_BOTH_WORKERS = 6
"""This many new connections in a row almost certainly reach both workers."""
RECOVERY_S = 15.0

if not Path("/proc/self/stat").exists():
    collect_ignore_glob = ["test_*"]  # freezing and killing process trees needs Linux


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the marker `chaos` to all tests of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("chaos")


@pytest.fixture(scope="session")
def template() -> Iterator[Postgres]:
    """A stopped PostgreSQL with the migrated tables, to be copied."""
    template = Postgres().start()
    migrate(template.url())
    template.stop()
    yield template
    template.close()


@pytest.fixture(scope="session")
def shared_postgres(template: Postgres) -> Iterator[Postgres]:
    """The PostgreSQL that all chaos tests share."""
    postgres = Postgres(template).start()
    yield postgres
    postgres.close()


@pytest.fixture
def postgres(shared_postgres: Postgres) -> Iterator[Postgres]:
    """A running PostgreSQL; its state is restored after the test."""
    yield shared_postgres
    if shared_postgres.is_running():
        shared_postgres.thaw()
        shared_postgres.wait_ready()
    else:
        shared_postgres.start()
    shared_postgres.reset_settings()


@pytest.fixture
def new_postgres(template: Postgres) -> Iterator[Callable[[], Postgres]]:
    """A factory of PostgreSQL servers that end with the test.

    Tests of failover, full disks and other settings use it.
    """
    made: list[Postgres] = []

    def make() -> Postgres:
        made.append(Postgres(template).start())
        return made[-1]

    yield make
    for postgres in made:
        postgres.close()


@pytest.fixture(scope="session")
def shared_proxy(shared_postgres: Postgres) -> Iterator[Proxy]:
    """The proxy between service and PostgreSQL that all chaos tests share."""
    proxy = Proxy(shared_postgres.port)
    yield proxy
    proxy.close()


@pytest.fixture
def proxy(shared_proxy: Proxy, postgres: Postgres) -> Iterator[Proxy]:
    """A proxy without faults; it is restored after the test."""
    yield shared_proxy
    shared_proxy.retarget(postgres.port)
    shared_proxy.pass_through()


@pytest.fixture
def remote_host() -> Iterator[Host]:
    """A second host, in a network namespace of this machine."""
    host = Host()
    yield host
    host.close()


@pytest.fixture(scope="session")
def shared_service(shared_postgres: Postgres, shared_proxy: Proxy) -> Iterator[Service]:
    """A service of two workers that connects through the proxy."""
    service = Service(shared_postgres.url(port=shared_proxy.port), WORKERS="2").start()
    yield service
    if service.is_running():
        service.thaw()
        service.terminate()  # a killed process writes no coverage data
    service.close()


@pytest.fixture
def service(shared_service: Service, proxy: Proxy) -> Iterator[Service]:
    """A running service that reaches PostgreSQL; its state is restored before the next test.

    If the test fails, pytest shows the errors in the log of the service.
    """
    if shared_service.is_running():
        shared_service.thaw()
    else:
        shared_service.kill()  # the main process may have left workers
        shared_service.start()
    _await_recovery(shared_service)
    shared_service.mark()
    yield shared_service
    _print_errors(shared_service)


@pytest.fixture
def new_service() -> Iterator[Callable[..., Service]]:
    """A factory of services that end with the test.

    A service has its own DATA_DIR and is not started yet.
    """
    made: list[Service] = []

    def make(database_url: str, **settings: str) -> Service:
        made.append(Service(database_url, **settings))
        return made[-1]

    yield make
    for service in made:
        _print_errors(service)
        service.close()


def _print_errors(service: Service) -> None:
    for line in service.log_lines() if service.stderr.exists() else []:
        if line.get("level") not in {"DEBUG", "INFO", "WARNING"}:
            print(line)


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    """A client of the service."""
    client = Client(service)
    yield client
    client.close()


def _await_recovery(service: Service) -> None:
    """Wait until every worker creates users, after the faults of the previous test."""
    try:
        eventually(
            lambda: all(_can_create_user(service) for _ in range(CONNECTIONS_TO_REACH_BOTH_WORKERS)), RECOVERY_S, ""
        )
    except AssertionError:
        pytest.fail(f"the service did not recover within {RECOVERY_S} s: {service.log_lines()[-5:]}")


def _can_create_user(service: Service) -> bool:
    """Return whether the worker that accepts a new connection creates a user."""
    client = Client(service)
    try:
        return client.create().status == 201
    finally:
        client.close()
