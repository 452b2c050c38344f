"""F28 to F33, F38, F39, F55: races between clients, slow and leaving clients, overload.

They concern promises P6, P7 and P10.
"""

import json
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial

import pytest

from tests.chaos.invariants import check_invariants
from tests.chaos.load import Answer, Client, Load, burst, new_body, new_key, summarize
from tests.chaos.postgres import Postgres
from tests.chaos.processes import HOST, eventually
from tests.chaos.service import Service

ANSWERED_WITHIN_S = 3.6
IDLE_TRANSACTION_TIMEOUT_S = 4.0
"""PostgreSQL ends a transaction that idles longer."""
ROUNDS, RIVALS = 5, 8


def _run_simultaneously(requests: Sequence[Callable[[], Answer]]) -> list[Answer]:
    """Send all requests at the same moment, each in its own thread."""
    barrier = threading.Barrier(len(requests))
    answers: list[Answer] = []

    def run(request: Callable[[], Answer]) -> None:
        barrier.wait()
        answers.append(request())

    threads = [threading.Thread(target=run, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def _post(service: Service, body: dict[str, str], key: str) -> Answer:
    with closing(Client(service)) as client:
        return client.post(body, key)


SPELLINGS: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "username": lambda body: new_body() | {"username": body["username"].upper()},
    "email": lambda body: new_body() | {"email": body["email"].upper()},
    "phone": lambda body: new_body() | {"phone": f"8 ({body['phone'][2:5]}) {body['phone'][5:]}"},
}
"""Other spellings of an identifier that a user already has."""


@pytest.mark.parametrize("identifier", SPELLINGS)
def test_of_simultaneous_requests_for_one_identifier_at_two_instances_one_succeeds(
    postgres: Postgres, service: Service, new_service: Callable[..., Service], identifier: str
) -> None:
    """F28."""
    other = new_service(postgres.url(), WORKERS="1").start()
    by_instance: dict[Service, list[Answer]] = {service: [], other: []}
    for _ in range(ROUNDS):
        body = new_body()
        instances = [service, other] * (RIVALS // 2)
        bodies = [body, *(SPELLINGS[identifier](body) for _ in instances[1:])]
        answers = _run_simultaneously(
            [partial(_post, *rival, new_key()) for rival in zip(instances, bodies, strict=True)]
        )
        for answer in answers:
            by_instance[instances[bodies.index(dict(answer.sent))]].append(answer)

        assert sorted(answer.status or 0 for answer in answers) == [201] + [409] * (RIVALS - 1), summarize(answers)
        assert {answer.code for answer in answers} == {"created", "conflict"}
    for instance, answers in by_instance.items():
        check_invariants(postgres, instance, answers)


def test_ten_simultaneous_requests_with_one_key_create_one_user_and_one_password(
    postgres: Postgres, service: Service
) -> None:
    """F29."""
    body, key = new_body(), new_key()

    answers = _run_simultaneously([partial(_post, service, body, key)] * 10)

    assert sorted(answer.code for answer in answers) == ["created", *["replayed"] * 9], summarize(answers)
    assert len({answer.json["password"] for answer in answers}) == 1
    check_invariants(postgres, service, answers)


def test_slow_clients_do_not_delay_other_requests(postgres: Postgres, service: Service) -> None:
    """F31."""
    incomplete = [socket.create_connection((HOST, service.port)) for _ in range(20)]
    for connection in incomplete:
        connection.sendall(b"POST /useradd HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")

    answers = burst(service, requests=40, parallel=4)

    for connection in incomplete:
        connection.close()
    assert {answer.code for answer in answers} == {"created"}, summarize(answers)
    assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S  # a body may take 20 s
    check_invariants(postgres, service, answers)


def test_incomplete_requests_on_more_connections_than_allowed_do_not_lock_others_out(
    postgres: Postgres, new_service: Callable[..., Service]
) -> None:
    """F55."""
    service = new_service(postgres.url(), WORKERS="1").start()
    with ExitStack() as stack:
        for _ in range(510):
            incomplete = stack.enter_context(socket.create_connection((HOST, service.port)))
            incomplete.sendall(b"POST /useradd HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        answers = burst(service, requests=20, parallel=4)

    assert {answer.code for answer in answers} == {"created"}, summarize(answers)
    check_invariants(postgres, service, answers)


def test_a_client_that_disconnects_early_gets_its_password_by_repeating_with_its_key(
    postgres: Postgres, service: Service
) -> None:
    """F32."""
    body, key = new_body(), new_key()
    text = json.dumps(body).encode()
    head = f"POST /useradd HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nIdempotency-Key: {key}"
    with closing(socket.create_connection((HOST, service.port))) as connection:
        connection.sendall(f"{head}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)

    query = "select status from attempts where username = %s"
    eventually(lambda: postgres.execute(query, [body["username"]]) == [(201,)], 5, "not recorded")
    answer = _post(service, body, key)

    assert answer.code == "replayed"
    check_invariants(postgres, service, [answer])


def test_requests_beyond_capacity_are_refused_quickly_while_livez_answers(postgres: Postgres, service: Service) -> None:
    """F33. A lock makes PostgreSQL slow for all requests."""
    holder = postgres.connect()
    holder.cursor().execute("begin; lock table users")
    health: list[int | None] = []
    with Load(service, clients=150, limit=150) as load:
        load.await_answers(50)
        health += [service.get("/livez", timeout=3) for _ in range(3)]
        holder.close()
        answers = load.wait()

    assert {answer.status for answer in answers} <= {201, 503}, summarize(answers)
    assert len([answer for answer in answers if answer.code == "overloaded"]) > 50, summarize(answers)
    assert {answer.headers["Retry-After"] for answer in answers if answer.status == 503} <= {"1", "2", "3"}
    assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S, summarize(answers)
    assert health == [200] * 3
    check_invariants(postgres, service, answers)


def test_stalled_downloads_hold_no_transaction_do_not_delay_a_stop_and_are_limited_to_two(
    postgres: Postgres, new_service: Callable[..., Service]
) -> None:
    """F38, F39, F26."""
    service = new_service(postgres.url(), WORKERS="1").start()
    postgres.execute(MANY)
    held = "select pid from pg_stat_activity where application_name = 'useradd' and xact_start is not null"
    with closing(Client(service)) as client:
        user = client.create()
        assert client.log_in(user.json["login"], user.json["password"])
        stalled = [_begin_download(service, client) for _ in range(2)]
        third, _ = client.get(EXPORT)
        answers = [client.create() for _ in range(20)]
        eventually(lambda: not postgres.execute(held), IDLE_TRANSACTION_TIMEOUT_S - 1, "a download holds a transaction")
        for connection in stalled:
            connection.close()
        eventually(lambda: client.get(EXPORT)[0] == 200, 10, "a client that left still occupies a download")
        stalled = [_begin_download(service, client)]
    code, _ = service.terminate()
    stalled[0].close()

    assert third == 503
    assert {answer.code for answer in answers} == {"created"}, summarize(answers)
    assert (code, service.survivors()) == (0, []), "the stop waits for a client that does not read"
    postgres.execute("delete from attempts where user_agent = 'many'")
    service.start()
    check_invariants(postgres, service, [user, *answers])


EXPORT = "/results/export.txt?period=all"
MANY = """
    insert into attempts (id, received_at, status, answered, code, method, duration_ms, username, language,
                          client_address, user_agent)
    select gen_random_uuid(), now(), 422, 422, 'invalid_phone', 'POST', 1, repeat('x', 150), 'en', '', 'many'
      from generate_series(1, 60000)
"""


def _begin_download(service: Service, client: Client) -> socket.socket:
    """Request a file, read the head of the response, and read no more."""
    connection = socket.create_connection((HOST, service.port))
    head = f"GET {EXPORT} HTTP/1.1\r\nHost: localhost\r\nCookie: {client._cookie}\r\n\r\n"
    connection.sendall(head.encode())
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection
