"""The instruments themselves: what the proxy, the PostgreSQL and the invariants say is so, is so."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, whatever psycopg2 calls it

from tests.chaos import processes
from tests.chaos.invariants import check
from tests.chaos.load import Answer, Client, Load, burst, new_body, new_key, summary
from tests.chaos.postgres import Postgres
from tests.chaos.processes import eventually
from tests.chaos.proxy import Proxy
from tests.chaos.service import Service
from tests.chaos.wire import Messages, statement

STARTUP = b"\0\0\0\x08\0\x03\0\0"
QUERY = b"Q\0\0\0\x0dselect 1\0"
COMMIT = b"Q\0\0\0\x0bCOMMIT\0"


class Notes:
    """A table, written through the proxy and read past it."""

    def __init__(self, postgres: Postgres, proxy: Proxy) -> None:
        self._postgres = postgres
        self._port = proxy.port

    def open(self) -> Connection:
        """Begin a transaction with a note in it, by way of the proxy."""
        connection = psycopg2.connect(self._postgres.url("harness", self._port), connect_timeout=3)
        connection.cursor().execute("insert into notes default values")
        return connection

    def count(self) -> int:
        """Return how many notes are committed."""
        return int(self._postgres.execute("select count(*) from notes", database="harness")[0][0])


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    """A network in which nobody else is: no service's COMMIT runs into a trap."""
    with closing(Proxy(postgres.port)) as proxy:
        yield proxy


@pytest.fixture
def notes(postgres: Postgres, proxy: Proxy) -> Iterator[Notes]:
    """An empty table in a database of its own."""
    postgres.execute("create database harness")
    postgres.execute("create table notes (id integer generated always as identity)", database="harness")
    yield Notes(postgres, proxy)
    postgres.execute("drop database harness with (force)")


def _in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


# --- Proxy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 2, 7, 1000])
def test_messages_are_recognised_however_the_network_cuts_them(cut: int) -> None:
    sent = b"\0\0\0\x08\x04\xd2\x16\x2f" + STARTUP + QUERY + COMMIT
    messages = Messages()

    found = [one for start in range(0, len(sent), cut) for one in messages.feed(sent[start : start + cut])]

    assert [statement(one) for one in found] == [None, None, b"select 1", b"COMMIT"]
    assert b"".join(found) == sent


def test_a_healthy_network_passes_everything(notes: Notes) -> None:
    with closing(notes.open()) as connection:
        connection.commit()

    assert notes.count() == 1


def test_commit_drop_commits_nothing(notes: Notes, proxy: Proxy) -> None:
    with closing(notes.open()) as connection:
        trap = proxy.commit_drop()

        with pytest.raises(psycopg2.OperationalError):
            connection.commit()

    assert trap.count == 1
    assert notes.count() == 0


def test_commit_eat_commits_and_breaks_the_connection(notes: Notes, proxy: Proxy) -> None:
    with closing(notes.open()) as connection:
        proxy.commit_eat()

        with pytest.raises(psycopg2.OperationalError):
            connection.commit()

    assert notes.count() == 1


def test_commit_freeze_commits_and_says_nothing(notes: Notes, proxy: Proxy) -> None:
    connection = notes.open()
    trap = proxy.commit_freeze()

    def commit() -> None:
        with closing(connection), pytest.raises(psycopg2.OperationalError):
            connection.commit()

    waiting = _in_background(commit)
    trap.wait()
    eventually(lambda: notes.count() == 1, 5, "not committed")
    assert waiting.is_alive()

    proxy.pass_through()
    waiting.join(5)
    assert not waiting.is_alive()


def test_a_commit_that_was_kept_arrives_although_its_sender_has_gone(notes: Notes, proxy: Proxy) -> None:
    connection = notes.open()
    trap = proxy.commit_keep()
    connection.cursor().execute("set idle_in_transaction_session_timeout = '10s'")
    waiting = _in_background(lambda: _abandon(connection, 0.2))
    trap.wait()
    waiting.join(5)
    assert notes.count() == 0

    proxy.pass_through()

    eventually(lambda: notes.count() == 1, 5, "it never arrived")


def _abandon(connection: Connection, seconds: float) -> None:
    """Send COMMIT and hang up without having heard anything."""
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.sendall(COMMIT + b"X\0\0\0\x04")
        time.sleep(seconds)
        line.shutdown(socket.SHUT_RDWR)
    connection.close()


def test_a_single_trap_is_used_up_and_a_lasting_one_is_not(notes: Notes, proxy: Proxy) -> None:
    for trap, expected in ((proxy.commit_drop(), 1), (proxy.commit_drop(lasting=True), 3)):
        proxy.trap = trap
        for _ in range(3):
            with closing(notes.open()) as connection:
                try:
                    connection.commit()
                except psycopg2.OperationalError:
                    continue
        assert trap.count == expected


def test_a_trap_for_a_transaction_lets_others_commit(notes: Notes, proxy: Proxy) -> None:
    with closing(notes.open()) as other, closing(notes.open()) as connection:
        trap = proxy.commit_drop("41 + 1")
        connection.cursor().execute("select 41 + 1")
        other.commit()

        with pytest.raises(psycopg2.OperationalError):
            connection.commit()

    assert trap.count == 1
    assert notes.count() == 1


def test_the_word_commit_in_a_value_is_no_commit(notes: Notes, proxy: Proxy) -> None:
    with closing(notes.open()) as connection:
        trap = proxy.commit_drop()
        connection.cursor().execute("select 'COMMIT'")

        assert not trap.fired.is_set()


@pytest.mark.parametrize("deliver", [False, True])
def test_a_reset_statement_breaks_its_connection_only(notes: Notes, proxy: Proxy, *, deliver: bool) -> None:
    with closing(notes.open()) as other, closing(notes.open()) as connection:
        proxy.reset_statement("41 + 1", deliver=deliver)
        other.cursor().execute("select 1")

        with pytest.raises(psycopg2.OperationalError):
            connection.cursor().execute("select 41 + 1")

        other.commit()
    assert notes.count() == 1


def test_reset_breaks_open_connections_and_lets_new_ones_in(notes: Notes, proxy: Proxy) -> None:
    with closing(notes.open()) as connection:
        assert proxy.reset() >= 1

        with pytest.raises(psycopg2.OperationalError):
            connection.cursor().execute("select 1")

    notes.open().close()


def test_refuse_lets_nobody_in_until_it_is_healed(notes: Notes, proxy: Proxy) -> None:
    proxy.refuse()

    with pytest.raises(psycopg2.OperationalError, match="refused"):
        notes.open()

    proxy.pass_through()
    notes.open().close()


def test_a_blackhole_takes_connections_and_is_silent(proxy: Proxy) -> None:
    proxy.blackhole()

    with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3) as connection:
        connection.sendall(STARTUP)

        with pytest.raises(TimeoutError):
            connection.recv(1)

        proxy.pass_through()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_what_was_held_arrives_later(notes: Notes, proxy: Proxy) -> None:
    connection = notes.open()
    proxy.hold()
    waiting = _in_background(connection.commit)
    time.sleep(0.2)
    assert notes.count() == 0
    assert waiting.is_alive()

    proxy.pass_through()

    waiting.join(5)
    connection.close()
    assert notes.count() == 1


def test_a_retargeted_proxy_leads_new_connections_elsewhere(proxy: Proxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        proxy.retarget(elsewhere.getsockname()[1])

        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5):
            elsewhere.settimeout(5)
            elsewhere.accept()[0].close()


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


def test_postgres_comes_back_after_every_violence(new_postgres: Callable[[], Postgres]) -> None:
    postgres = new_postgres()
    port = postgres.port
    postgres.execute("create table notes as select 1")

    postgres.kill()
    assert not postgres.is_running()
    postgres.start()
    postgres.restart()
    postgres.freeze()
    assert {processes.state(pid) for pid in [postgres.pid, *processes.descendants(postgres.pid)]} == {"T"}
    postgres.thaw()

    assert postgres.port == port
    assert postgres.execute("select count(*) from notes") == [(1,)]


def test_a_standby_has_what_was_committed_before_the_primary_died(new_postgres: Callable[[], Postgres]) -> None:
    primary = new_postgres()
    standby = primary.standby()
    try:
        primary.execute("create table notes as select 1")
        primary.kill()

        standby.promote()

        assert standby.execute("select count(*) from notes") == [(1,)]
        standby.execute("insert into notes values (2)")
    finally:
        standby.close()


def test_one_backend_is_frozen_or_killed_alone(postgres: Postgres, service: Service) -> None:
    backend = postgres.freeze_backend()
    assert processes.state(backend) == "T"
    postgres.thaw_backend(backend)

    assert postgres.kill_one_backend(backend) == backend
    eventually(lambda: not processes.is_alive(backend), 5, "it survived")


# --- Service, load, invariants --------------------------------------------------------------------------------------


def test_a_service_killed_and_started_keeps_its_port_and_its_data(service: Service) -> None:
    secrets = service.own_secrets()
    service.kill()
    assert service.survivors() == []
    assert service.get("/livez") is None

    service.start()

    assert service.get("/livez") == 200
    assert service.own_secrets() == secrets


def test_a_load_in_good_weather_leaves_everything_in_order(postgres: Postgres, service: Service) -> None:
    with Load(service, clients=4, limit=100) as load:
        answers = load.wait()

    assert {answer.status for answer in answers} == {201}, summary(answers)
    assert len(answers) == 100
    check(postgres, service, answers)


def test_a_request_without_an_answer_is_an_answer_without_status(client: Client, service: Service) -> None:
    service.freeze()
    answer = client.create(timeout=0.2)
    service.thaw()

    assert (answer.status, answer.code) == (None, "broken")
    assert client.repeat(answer).status == 201


@pytest.fixture(scope="module")
def damageable(template: Postgres) -> Iterator[tuple[Postgres, Service, list[Answer]]]:
    """A service with four users, in whose tables anything is possible."""
    with closing(Postgres(template).start()) as postgres, closing(Service(postgres.url()).start()) as service:
        answers = burst(service, requests=4, parallel=2)
        postgres.execute("alter table users drop constraint users_id_attempt_status_fkey")
        for table in TABLES:
            postgres.execute(f"create table {table}_before as table {table}")
        yield postgres, service, answers


TABLES = ("attempts", "users")


@pytest.mark.parametrize(
    ("invariant", "damage"),
    [
        ("I1", "delete from attempts"),
        ("I4", "update attempts set answered = 503"),
        ("I2", "delete from users"),
        ("I3", "update users set password_hash = 'hmac-sha256$0$0$0'"),
        ("I7", "update attempts set email_masked = sent ->> 'username' || '@mail.example.org'"),
    ],
)
def test_every_invariant_notices_its_damage(
    damageable: tuple[Postgres, Service, list[Answer]], invariant: str, damage: str
) -> None:
    postgres, service, answers = damageable
    for table in TABLES:
        postgres.execute(f"truncate {table}")
        postgres.execute(f"insert into {table} overriding system value table {table}_before")
    check(postgres, service, answers)

    postgres.execute(damage)

    with pytest.raises(AssertionError, match=invariant):
        check(postgres, service, answers, drain_s=0.2)


def test_an_idle_transaction_is_noticed(postgres: Postgres, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.invariants.IDLE_S", 0.2)
    with closing(psycopg2.connect(postgres.url())) as connection:
        connection.cursor().execute("select 1")

        with pytest.raises(AssertionError, match="I5"):
            check(postgres, service, [])


def test_an_error_in_the_log_is_noticed_unless_it_is_allowed(postgres: Postgres, service: Service) -> None:
    with service.stderr.open("a") as log:
        log.write('{"level": "ERROR", "message": "the sky falls"}\n')

    with pytest.raises(AssertionError, match="I6"):
        check(postgres, service, [])
    check(postgres, service, [], allowed_errors=["sky falls"])


def test_a_key_in_the_log_is_noticed(postgres: Postgres, service: Service, client: Client) -> None:
    answer = client.post(new_body(), new_key())
    size = service.stderr.stat().st_size
    with service.stderr.open("a") as log:
        log.write(f'{{"level": "INFO", "message": "{answer.key}"}}\n')
    try:
        with pytest.raises(AssertionError, match="I7"):
            check(postgres, service, [answer])
    finally:
        with service.stderr.open("r+") as log:
            log.truncate(size)
