"""F13 to F15: a standby takes over, a standby hangs, the first of several hosts hangs (promises P4, P5)."""

from collections.abc import Callable, Iterator

import pytest

from tests.chaos.invariants import check
from tests.chaos.load import Client, Load, summary
from tests.chaos.postgres import Postgres
from tests.chaos.processes import HOST, eventually
from tests.chaos.service import Service

ANSWERED_WITHIN_S = 3.6


@pytest.fixture
def primary(new_postgres: Callable[[], Postgres]) -> Postgres:
    """A PostgreSQL of the test's own."""
    return new_postgres()


@pytest.fixture
def standby(primary: Postgres) -> Iterator[Postgres]:
    """Its synchronous standby."""
    standby = primary.standby()
    yield standby
    standby.close()


def _both(first: Postgres, second: Postgres) -> str:
    """Return an address that names two hosts."""
    return first.url().replace(f"{HOST}:{first.port}", f"{HOST}:{first.port},{HOST}:{second.port}")


def test_a_failover_costs_no_client_an_error_and_no_user(
    primary: Postgres, standby: Postgres, new_service: Callable[..., Service]
) -> None:
    """F13."""
    service = new_service(_both(primary, standby), WORKERS="2").start()
    with Load(service, clients=5) as load:
        load.await_answers(100)
        primary.kill()
        standby.promote()
        load.await_answers(len(load.answers) + 100)

    assert {answer.code for answer in load.answers} == {"created"}, summary(load.answers)
    assert max(answer.seconds for answer in load.answers) < ANSWERED_WITHIN_S
    check(standby, service, load.answers)


def test_a_standby_that_hangs_makes_the_outcome_unknown_until_it_goes_on(
    primary: Postgres, standby: Postgres, new_service: Callable[..., Service]
) -> None:
    """F14."""
    service = new_service(primary.url(), WORKERS="1").start()
    client = Client(service)
    standby.freeze()

    answer = client.create()
    standby.thaw()

    answers = [answer]
    assert (answer.status, answer.code) == (503, "outcome_unknown")
    assert answer.seconds < ANSWERED_WITHIN_S

    def is_answered() -> bool:
        answers.append(client.repeat(answer))
        return answers[-1].status != 503

    eventually(is_answered, 15, "only 503")
    client.close()
    assert answers[-1].code == "replayed"
    check(primary, service, answers)


def test_a_first_host_that_hangs_costs_its_second_once(
    primary: Postgres, new_postgres: Callable[[], Postgres], new_service: Callable[..., Service]
) -> None:
    """F15."""
    frozen = new_postgres()
    service = new_service(_both(frozen, primary), WORKERS="1")
    frozen.freeze()
    service.start()
    client = Client(service)

    answers = [client.create() for _ in range(10)]

    client.close()
    assert {answer.code for answer in answers} == {"created"}, summary(answers)
    assert answers[0].seconds < ANSWERED_WITHIN_S
    assert max(answer.seconds for answer in answers[1:]) < 1.0
    check(primary, service, answers)
