"""One PostgreSQL, one broken network and one service for all chaos tests, healed after each of them.

Tests share the tables: every user is new, and a test checks the answers that it got and what must hold for all.
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

IN_A_ROW = 6
"""So many new connections in a row reach both workers, almost surely."""
RECOVERY_S = 15.0

if not Path("/proc/self/stat").exists():
    collect_ignore_glob = ["test_*"]  # freezing and killing trees of processes needs Linux


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All in here starts and kills real processes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("chaos")


@pytest.fixture(scope="session")
def template() -> Iterator[Postgres]:
    """A stopped PostgreSQL with the tables of the service, to be copied."""
    template = Postgres().start()
    migrate(template.url())
    template.stop()
    yield template
    template.close()


@pytest.fixture(scope="session")
def shared_postgres(template: Postgres) -> Iterator[Postgres]:
    """The PostgreSQL of all chaos tests."""
    postgres = Postgres(template).start()
    yield postgres
    postgres.close()


@pytest.fixture
def postgres(shared_postgres: Postgres) -> Iterator[Postgres]:
    """A PostgreSQL that runs; the test may do with it what it likes."""
    yield shared_postgres
    if shared_postgres.is_running():
        shared_postgres.thaw()
        shared_postgres.wait_ready()
    else:
        shared_postgres.start()
    shared_postgres.reset_settings()


@pytest.fixture
def new_postgres(template: Postgres) -> Iterator[Callable[[], Postgres]]:
    """Make further PostgreSQLs that end with the test: for failover, full disks, other settings."""
    made: list[Postgres] = []

    def make() -> Postgres:
        made.append(Postgres(template).start())
        return made[-1]

    yield make
    for postgres in made:
        postgres.close()


@pytest.fixture(scope="session")
def shared_proxy(shared_postgres: Postgres) -> Iterator[Proxy]:
    """The network between service and PostgreSQL."""
    proxy = Proxy(shared_postgres.port)
    yield proxy
    proxy.close()


@pytest.fixture
def proxy(shared_proxy: Proxy, postgres: Postgres) -> Iterator[Proxy]:
    """A network that works until the test breaks it."""
    yield shared_proxy
    shared_proxy.retarget(postgres.port)
    shared_proxy.pass_through()


@pytest.fixture
def distant() -> Iterator[Host]:
    """Another host, at the end of a cable."""
    host = Host()
    yield host
    host.close()


@pytest.fixture(scope="session")
def shared_service(shared_postgres: Postgres, shared_proxy: Proxy) -> Iterator[Service]:
    """Two workers, by way of the proxy."""
    service = Service(shared_postgres.url(port=shared_proxy.port), WORKERS="2").start()
    yield service
    if service.is_running():
        service.thaw()
        service.term()  # a process that is killed leaves no coverage
    service.close()


@pytest.fixture
def service(shared_service: Service, proxy: Proxy) -> Service:
    """A service that runs and reaches PostgreSQL; the test may do with it what it likes."""
    if shared_service.is_running():
        shared_service.thaw()
    else:
        shared_service.kill()  # whom the main process may have left behind
        shared_service.start()
    _await_recovery(shared_service)
    shared_service.mark()
    return shared_service


@pytest.fixture
def new_service() -> Iterator[Callable[..., Service]]:
    """Make further services that end with the test, each with a DATA_DIR of its own. They are not started yet."""
    made: list[Service] = []

    def make(database_url: str, **settings: str) -> Service:
        made.append(Service(database_url, **settings))
        return made[-1]

    yield make
    for service in made:
        service.close()


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    """One client of the service."""
    client = Client(service)
    yield client
    client.close()


def _await_recovery(service: Service) -> None:
    """Wait until every worker creates users again: what the test before broke is healed."""
    try:
        eventually(lambda: all(_creates(service) for _ in range(IN_A_ROW)), RECOVERY_S, "")
    except AssertionError:
        pytest.fail(f"the service does not recover within {RECOVERY_S} s: {service.log_lines()[-5:]}")


def _creates(service: Service) -> bool:
    """Tell whether whoever takes a new connection creates a user."""
    client = Client(service)
    try:
        return client.create().status == 201
    finally:
        client.close()
