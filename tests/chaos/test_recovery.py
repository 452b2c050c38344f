"""F79, F80: PostgreSQL is back, but slow or with a frozen session (promises P2, P9)."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.chaos.invariants import check_invariants
from tests.chaos.load import Answer, Client, Load, burst, new_body, new_key, summarize
from tests.chaos.postgres import Postgres
from tests.chaos.processes import eventually
from tests.chaos.proxy import Proxy
from tests.chaos.service import Service

BACK_WITHIN_S = 10.0
DELAY = """
create function chaos_delay() returns trigger language plpgsql as $$
begin perform pg_sleep({seconds}); return new; end $$;
create trigger chaos_delay before insert on {table} for each {each} {condition} execute function chaos_delay()"""
NO_DELAY = "drop function if exists chaos_delay cascade"
NewService = Callable[..., Service]


@pytest.fixture(autouse=True)
def _without_delays(postgres: Postgres) -> Iterator[None]:
    """Remove the delays after the test."""
    yield
    postgres.thaw()  # a frozen session holds locks
    postgres.execute(NO_DELAY)


def _await_created(client: Client, what: str) -> list[Answer]:
    """Wait until a user is created; print the seconds and return all answers."""
    started, answers = time.monotonic(), []

    def creates() -> bool:
        answers.append(client.create())
        return answers[-1].status == 201

    eventually(creates, BACK_WITHIN_S, f"P9: no user is created: {what}")
    print(f"{what}: first 201 after {time.monotonic() - started:.2f} s")
    return answers


def test_users_are_created_again_while_statements_are_slow(
    postgres: Postgres, proxy: Proxy, new_service: NewService
) -> None:
    """F79: a batch of spooled attempts takes longer than any limit, the probe does not."""
    service = new_service(postgres.url(port=proxy.port), WORKERS="1").start()
    with closing(Client(service)) as client:
        answers = [client.create()]
        proxy.refuse()
        answers += burst(service, requests=20, parallel=4)
        postgres.execute(DELAY.format(seconds=1.6, table="attempts", each="row", condition=""))
        proxy.pass_through()
        answers += _await_created(client, "slow statements")
        postgres.execute(NO_DELAY)

    check_invariants(postgres, service, answers, drain_s=20)


def test_an_attempt_of_a_frozen_session_delays_no_other(
    postgres: Postgres, proxy: Proxy, new_service: NewService
) -> None:
    """F80: whether that attempt committed is unknown until the session ends."""
    service = new_service(postgres.url(port=proxy.port), WORKERS="1").start()
    postgres.execute(
        DELAY.format(seconds=30, table="users", each="row", condition="when (new.username like 'frozen%')")
    )
    with closing(Client(service)) as client:
        answers = [client.create()]
        with Load(service, clients=1, limit=1, client=lambda _: _Creator(service)) as load:
            frozen = eventually(lambda: _inside(postgres), 5, "no session executes the trigger")
            postgres.freeze_backend(frozen)
        answers += load.answers
        assert load.answers[0].code == "outcome_unknown", summarize(load.answers)
        proxy.refuse()
        answers += (spooled := burst(service, requests=50, parallel=4))
        proxy.pass_through()
        answers += _await_created(client, "frozen session")
        ids = [answer.attempt_id for answer in spooled]
        query = "select count(*) from attempts where id = any(%s::uuid[])"
        eventually(lambda: postgres.execute(query, [ids]) == [(len(ids),)], BACK_WITHIN_S, "P2: others wait for it")
        postgres.thaw_backend(frozen)

    check_invariants(postgres, service, answers, drain_s=20)


def _inside(postgres: Postgres) -> int:
    """Return the PID of the session that sleeps in the trigger, 0 if there is none."""
    found = postgres.execute("select pid from pg_stat_activity where wait_event = 'PgSleep'")
    return int(found[0][0]) if found else 0


class _Creator(Client):
    """Creates a user whose INSERT is delayed."""

    def create(self, username: str | None = None, key: str | None = None, timeout: float = 10) -> Answer:
        return self.post(new_body(f"frozen{time.monotonic_ns()}"), new_key(), timeout)
