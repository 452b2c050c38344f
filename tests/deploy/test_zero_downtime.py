"""An upgrade under load: migrations beside a service that serves, then one instance after the other. Nobody notices."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.load import Load, summary
from tests.chaos.service import ROOT, Service, migrate
from tests.deploy.conftest import INSTANCE, Database
from tests.deploy.fronts import FarClient, Front, Haproxy

REVISION, NEWEST = (path.name[:4] for path in sorted((Path(ROOT) / "migrations" / "versions").glob("*.py"))[-2:])
"""The tables as they are before the upgrade, and after."""


@pytest.fixture
def front(instances: list[Service]) -> Iterator[Front]:
    """HAProxy before two instances that serve with the tables of the version before."""
    with closing(Haproxy(instances)) as front:
        front.ready()
        yield front


def test_migrating_and_replacing_instance_after_instance_costs_no_client_an_error(
    front: Front, instances: list[Service], database: Database
) -> None:
    """Clients that give no key: nothing is sent twice for them."""
    with Load(front, clients=4, client=FarClient, key="", pause_s=0.01) as load:
        load.await_answers(20)
        before = database.ask("select version_num from alembic_version")
        migrate(database.url)
        for instance in instances:
            stopped, _ = instance.term()
            assert stopped == 0
            load.await_answers(len(load.answers) + 20)
            instance.start()
            front.ready()
        load.await_answers(len(load.answers) + 20)

    assert (before, database.ask("select version_num from alembic_version")) == ([(REVISION,)], [(NEWEST,)])
    assert {answer.status for answer in load.answers} == {201}, summary(load.answers)


def test_a_restart_behind_a_socket_that_systemd_holds_costs_no_client_an_error(database: Database) -> None:
    service = Service(database.url, **INSTANCE)
    with closing(service.hold_socket()):
        service.start()
        with Load(service, clients=4, key="", pause_s=0.01, timeout_s=20) as load:
            load.await_answers(20)
            stopped, _ = service.term()
            service.start()
            load.await_answers(len(load.answers) + 20)
        service.term()
    service.close()

    assert stopped == 0
    assert {answer.status for answer in load.answers} == {201}, summary(load.answers)
