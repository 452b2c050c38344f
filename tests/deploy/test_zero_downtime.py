"""An upgrade under load without errors.

Migrate while serving, then replace one instance after the other.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.load import Load, summarize
from tests.chaos.service import ROOT, Service, migrate
from tests.deploy.conftest import INSTANCE, Database
from tests.deploy.reverse_proxies import Haproxy, ProxyClient, ReverseProxy

REVISION, NEWEST = (path.name[:4] for path in sorted((Path(ROOT) / "migrations" / "versions").glob("*.py"))[-2:])
"""Revisions before and after the upgrade."""


@pytest.fixture
def reverse_proxy(instances: list[Service]) -> Iterator[ReverseProxy]:
    """HAProxy in front of two instances that serve with the tables of the previous revision."""
    with closing(Haproxy(instances)) as reverse_proxy:
        reverse_proxy.await_ready()
        yield reverse_proxy


def test_requests_do_not_fail_while_tables_are_migrated_and_instances_replaced(
    reverse_proxy: ReverseProxy, instances: list[Service], database: Database
) -> None:
    """Clients send no key, so that the proxy retries nothing for them."""
    with Load(reverse_proxy, clients=4, client=ProxyClient, key="", pause_s=0.01) as load:
        load.await_answers(20)
        before = database.execute("select version_num from alembic_version")
        migrate(database.url)
        for instance in instances:
            exit_status, _ = instance.terminate()
            assert exit_status == 0
            load.await_answers(len(load.answers) + 20)
            instance.start()
            reverse_proxy.await_ready()
        load.await_answers(len(load.answers) + 20)

    assert (before, database.execute("select version_num from alembic_version")) == ([(REVISION,)], [(NEWEST,)])
    assert {answer.status for answer in load.answers} == {201}, summarize(load.answers)


def test_requests_do_not_fail_during_a_restart_with_socket_activation(database: Database) -> None:
    service = Service(database.url, **INSTANCE)
    with closing(service.hold_socket()):
        service.start()
        with Load(service, clients=4, key="", pause_s=0.01, timeout_s=20) as load:
            load.await_answers(20)
            exit_status, _ = service.terminate()
            service.start()
            load.await_answers(len(load.answers) + 20)
        service.terminate()
    service.close()

    assert exit_status == 0
    assert {answer.status for answer in load.answers} == {201}, summarize(load.answers)
