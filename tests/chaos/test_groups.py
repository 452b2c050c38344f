"""F83: odd members of groups, and groups whose process or session dies."""

import http.client
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest

from tests.chaos.invariants import check_invariants
from tests.chaos.load import Answer, Client, Load, new_body, new_key, summarize
from tests.chaos.postgres import Postgres
from tests.chaos.processes import eventually
from tests.chaos.service import Service

NewService = Callable[..., Service]
GROUP_FAILED = '"group failed"'
CLIENTS = 12
TRIGGER = """
create function chaos_member() returns trigger language plpgsql as $$ begin {action}; return new; end $$;
create trigger chaos_member before insert on users for each row
    when (new.username like 'odd%') execute function chaos_member()"""
INSIDE = "select pid from pg_stat_activity where query like 'execute useradd%' and wait_event = 'PgSleep'"
CANCEL = f"select pg_cancel_backend(pid) from ({INSIDE}) one"  # noqa: S608 - constant
TERMINATE = f"select pg_terminate_backend(pid) from ({INSIDE}) one"  # noqa: S608 - constant


@pytest.fixture(autouse=True)
def _without_trigger(postgres: Postgres) -> Iterator[None]:
    """Remove the trigger after the test."""
    yield
    postgres.execute("drop function if exists chaos_member cascade")


class _Odd(Client):
    """Creates the users that the trigger or the lock affects."""

    def create(self, username: str | None = None, key: str | None = None, timeout: float = 10) -> Answer:
        return self.post(new_body(f"odd{time.monotonic_ns()}"), new_key(), timeout)


def _load_until_a_group_fails(service: Service, odd: Callable[[], object] | None = None) -> tuple[Load, Load]:
    """Run usual and odd clients until a group has failed, and a while longer."""
    with Load(service, clients=CLIENTS) as usual, Load(service, clients=1, client=_Odd) as odd_ones:
        usual.await_answers(50)

        def has_failed() -> bool:
            if odd:
                odd()
            return GROUP_FAILED in service.stderr.read_text()

        eventually(has_failed, 60, "no group failed")
        usual.await_answers(len(usual.answers) + 50)
    return usual, odd_ones


def _await_groups(postgres: Postgres) -> None:
    """Assert that users shared transactions."""
    [(users, transactions)] = postgres.execute("select count(*), count(distinct xmin::text) from users")
    assert transactions < users, "no two users share a transaction"


def test_a_slow_member_costs_no_other_its_user(postgres: Postgres, new_service: NewService) -> None:
    """The group has half of the time; then its members wait for its outcome with the same IDs."""
    service = new_service(postgres.url(), WORKERS="1").start()
    postgres.execute(TRIGGER.format(action="perform pg_sleep(1.5)"))

    usual, odd = _load_until_a_group_fails(service)

    assert {answer.code for answer in usual.answers} == {"created"}, summarize(usual.answers)
    assert {answer.code for answer in odd.answers} == {"created"}, summarize(odd.answers)
    _await_groups(postgres)
    check_invariants(postgres, service, [*usual.answers, *odd.answers])


def test_a_locked_member_costs_no_other_its_user(postgres: Postgres, new_service: NewService) -> None:
    """The request gets 503, as it would alone, because the lock is held until the end."""
    service = new_service(postgres.url(), WORKERS="1").start()
    body = new_body("held")
    answers: list[Answer] = []
    with closing(postgres.connect()) as holder, closing(Client(service)) as client:
        holder.autocommit = False
        holder.cursor().execute("insert into identifiers values ('held', 'username', gen_random_uuid())")
        with Load(service, clients=CLIENTS) as usual:
            usual.await_answers(50)
            while GROUP_FAILED not in service.stderr.read_text():
                assert len(answers) < 20, "no group failed"
                answers.append(client.post(body, new_key()))
            usual.await_answers(len(usual.answers) + 50)
        holder.rollback()

    assert {answer.code for answer in usual.answers} == {"created"}, summarize(usual.answers)
    assert {answer.status for answer in answers} == {503}, summarize(answers)
    check_invariants(postgres, service, [*usual.answers, *answers])


def test_a_member_that_postgresql_rejects_costs_no_other_its_user(postgres: Postgres, new_service: NewService) -> None:
    """It is a defect of the service, so that its request gets 500."""
    service = new_service(postgres.url(), WORKERS="1").start()
    postgres.execute(TRIGGER.format(action="raise division_by_zero"))

    usual, odd = _load_until_a_group_fails(service)

    assert {answer.code for answer in usual.answers} == {"created"}, summarize(usual.answers)
    assert {answer.code for answer in odd.answers} == {"internal_error"}, summarize(odd.answers)
    check_invariants(postgres, service, [*usual.answers, *odd.answers], allowed_errors=["unhandled exception"])


def test_a_cancelled_group_costs_no_member_its_user(postgres: Postgres, new_service: NewService) -> None:
    service = new_service(postgres.url(), WORKERS="1").start()
    postgres.execute(TRIGGER.format(action="perform pg_sleep(0.15)"))

    with closing(postgres.connect()) as session:
        usual, odd = _load_until_a_group_fails(service, lambda: session.cursor().execute(CANCEL))

    assert {answer.code for answer in usual.answers} == {"created"}, summarize(usual.answers)
    assert {answer.code for answer in odd.answers} <= {"created", "database_unavailable"}, summarize(odd.answers)
    check_invariants(postgres, service, [*usual.answers, *odd.answers])


def test_a_group_whose_session_is_terminated_is_decided_by_its_members(
    postgres: Postgres, new_service: NewService
) -> None:
    service = new_service(postgres.url(), WORKERS="1").start()
    postgres.execute(TRIGGER.format(action="perform pg_sleep(0.15)"))

    with closing(postgres.connect()) as session:
        usual, odd = _load_until_a_group_fails(service, lambda: session.cursor().execute(TERMINATE))

    assert {answer.code for answer in usual.answers} == {"created"}, summarize(usual.answers)
    # The sessions in which it is tried alone may be terminated, too.
    assert {answer.code for answer in odd.answers} <= {"created", "outcome_unknown"}, summarize(odd.answers)
    check_invariants(postgres, service, [*usual.answers, *odd.answers])


def test_a_process_that_dies_with_groups_under_way_loses_and_repeats_nothing(
    postgres: Postgres, new_service: NewService
) -> None:
    """Each attempt ends as created or interrupted; a repeat with the same key completes it."""
    service = new_service(postgres.url(), WORKERS="1").start()
    answers: list[Answer] = []
    for _ in range(3):
        with Load(service, clients=CLIENTS) as load:
            load.await_answers(60)
            service.kill()
        service.start()
        answers += load.answers
    broken = [answer for answer in answers if answer.code == "broken"]
    with closing(Client(service)) as client:
        repeated = [client.repeat(answer) for answer in broken]

    assert {answer.code for answer in answers} <= {"created", "broken"}, summarize(answers)
    assert {answer.code for answer in repeated} <= {"created", "replayed"}, summarize(repeated)
    _await_groups(postgres)
    check_invariants(postgres, service, [*answers, *repeated])


def test_instances_with_overlapping_identifiers_never_deadlock_and_each_has_one_owner(
    postgres: Postgres, new_service: NewService
) -> None:
    services = [new_service(postgres.url(), WORKERS="1").start() for _ in range(2)]
    names = [[f"rival{_letters(number + shift)}" for number in range(40)] for shift in range(2)]
    bodies = [new_body(name) | {"email": f"{other}@example.org"} for name, other in zip(*names, strict=True)]
    answers: dict[Service, list[Answer]] = {service: [] for service in services}
    with _competing(services, bodies, answers):
        eventually(lambda: all(len(found) >= 400 for found in answers.values()), 60, "too few answers")

    everything = [answer for found in answers.values() for answer in found]
    created = [answer.sent["username"] for answer in everything if answer.code == "created"]
    assert {answer.code for answer in everything} == {"created", "conflict"}, summarize(everything)
    assert len(created) == len(set(created)) == len(bodies)
    assert "deadlock detected" not in postgres.log.read_text()
    for service, found in answers.items():
        check_invariants(postgres, service, found)


def test_a_bulk_request_whose_process_is_killed_is_completed_by_repeating_it(
    postgres: Postgres, new_service: NewService
) -> None:
    """Each user is created once, and every answer for it has the same password."""
    service = new_service(postgres.url(), WORKERS="1").start()
    bodies, key = [new_body() for _ in range(1000)], new_key()
    found: dict[str, set[str]] = defaultdict(set)
    for kill_after in (1, 150, 420, 730, 950):
        for number, answer in enumerate(_send_bulk(service, bodies, key), start=1):
            found[answer["login"]].add(answer["password"])
            if number == kill_after:
                service.kill()
        service.start()
    last = [(answer["status"], answer["login"]) for answer in _send_bulk(service, bodies, key)]

    assert last == [(201, body["username"]) for body in bodies]
    assert {len(passwords) for passwords in found.values()} == {1}
    usernames = [body["username"] for body in bodies]
    for created in ("users where username = any(%s)", "attempts where code = 'created' and username = any(%s)"):
        assert postgres.execute(f"select count(*) from {created}", [usernames]) == [(len(bodies),)]  # noqa: S608
    with closing(Client(service)) as client:
        login, passwords = found.popitem()
        assert client.log_in(login, *passwords)
    check_invariants(postgres, service, [])


def _send_bulk(service: Service, bodies: list[dict[str, str]], key: str) -> Iterator[dict[str, Any]]:
    """Yield the answers of a bulk request until its connection breaks."""
    connection = http.client.HTTPConnection(service.host, service.port, timeout=60)
    lines = "\n".join(map(json.dumps, bodies))
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key}
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("POST", "/api/v1/useradd/bulk/", lines, headers)
        response = connection.getresponse()
        assert response.status == 200
        while (line := response.readline()).endswith(b"\n"):
            yield json.loads(line)


def _letters(number: int) -> str:
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


@contextmanager
def _competing(
    services: list[Service], bodies: list[dict[str, str]], answers: dict[Service, list[Answer]]
) -> Iterator[None]:
    """Make clients of all services create the same users until the block ends."""
    stopped = threading.Event()

    def create(service: Service, first: int) -> None:
        with closing(Client(service)) as client:
            number = first
            while not stopped.is_set():
                answers[service].append(client.post(bodies[number % len(bodies)], new_key()))
                number += 1

    threads = [
        threading.Thread(target=create, args=(service, 5 * number)) for service in services for number in range(6)
    ]
    for thread in threads:
        thread.start()
    yield
    stopped.set()
    for thread in threads:
        thread.join()
