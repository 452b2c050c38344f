"""Tests of the chaos tools: the proxy, the PostgreSQL servers, the service, invariants."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class with a lower-case name

from tests.chaos import processes
from tests.chaos.invariants import check_invariants
from tests.chaos.load import Answer, Client, Load, burst, new_body, new_key, summarize
from tests.chaos.postgres import Postgres
from tests.chaos.processes import eventually
from tests.chaos.proxy import Proxy
from tests.chaos.service import Service
from tests.chaos.wire import Messages, statement

STARTUP = b"\0\0\0\x08\0\x03\0\0"
QUERY = b"Q\0\0\0\x0dselect 1\0"
COMMIT = b"Q\0\0\0\x0bCOMMIT\0"


class Notes:
    """A table that is written through the proxy and read directly."""

    def __init__(self, postgres: Postgres, proxy: Proxy) -> None:
        self._postgres = postgres
        self._port = proxy.port

    def open(self) -> Connection:
        """Begin a transaction through the proxy and insert a row."""
        connection = psycopg2.connect(self._postgres.url("harness", self._port), connect_timeout=3)
        connection.cursor().execute("insert into notes default values")
        return connection

    def count(self) -> int:
        """Return the number of committed rows."""
        return int(self._postgres.execute("select count(*) from notes", database="harness")[0][0])


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    """A proxy without other clients, so that no COMMIT of a service fires a trap."""
    with closing(Proxy(postgres.port)) as proxy:
        yield proxy


@pytest.fixture
def notes(postgres: Postgres, proxy: Proxy) -> Iterator[Notes]:
    """An empty table in a separate database."""
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
def test_messages_are_recognized_however_they_are_split_into_packets(cut: int) -> None:
    sent = b"\0\0\0\x08\x04\xd2\x16\x2f" + STARTUP + QUERY + COMMIT
    messages = Messages()

    found = [message for start in range(0, len(sent), cut) for message in messages.feed(sent[start : start + cut])]

    assert [statement(message) for message in found] == [None, None, b"select 1", b"COMMIT"]
    assert b"".join(found) == sent


def test_a_proxy_without_faults_forwards_everything(notes: Notes) -> None:
    with closing(notes.open()) as connection:
        connection.commit()

    assert notes.count() == 1


def test_commit_drop_commits_nothing(notes: Notes, proxy: Proxy) -> None:
    with closing(notes.open()) as connection:
        trap = proxy.drop_commit()

        with pytest.raises(psycopg2.OperationalError):
            connection.commit()

    assert trap.count == 1
    assert notes.count() == 0


def test_commit_drop_reply_commits_and_breaks_the_connection(notes: Notes, proxy: Proxy) -> None:
    with closing(notes.open()) as connection:
        proxy.drop_commit_reply()

        with pytest.raises(psycopg2.OperationalError):
            connection.commit()

    assert notes.count() == 1


def test_commit_freeze_commits_without_a_reply(notes: Notes, proxy: Proxy) -> None:
    connection = notes.open()
    trap = proxy.freeze_commit()

    def commit() -> None:
        with closing(connection), pytest.raises(psycopg2.OperationalError):
            connection.commit()

    committing = _in_background(commit)
    trap.wait()
    eventually(lambda: notes.count() == 1, 5, "not committed")
    assert committing.is_alive()

    proxy.pass_through()
    committing.join(5)
    assert not committing.is_alive()


def test_a_delayed_commit_arrives_after_its_client_has_disconnected(notes: Notes, proxy: Proxy) -> None:
    connection = notes.open()
    trap = proxy.delay_commit()
    connection.cursor().execute("set idle_in_transaction_session_timeout = '10s'")
    committing = _in_background(lambda: _abandon(connection, 0.2))
    trap.wait()
    committing.join(5)
    assert notes.count() == 0

    proxy.pass_through()

    eventually(lambda: notes.count() == 1, 5, "it never arrived")


def _abandon(connection: Connection, seconds: float) -> None:
    """Send COMMIT and close the connection without reading the reply."""
    with socket.socket(fileno=os.dup(connection.fileno())) as plain:
        plain.sendall(COMMIT + b"X\0\0\0\x04")
        time.sleep(seconds)
        plain.shutdown(socket.SHUT_RDWR)
    connection.close()


def test_a_trap_fires_once_and_a_lasting_one_every_time(notes: Notes, proxy: Proxy) -> None:
    for trap, expected in ((proxy.drop_commit(), 1), (proxy.drop_commit(is_lasting=True), 3)):
        proxy.trap = trap
        for _ in range(3):
            with closing(notes.open()) as connection:
                try:
                    connection.commit()
                except psycopg2.OperationalError:
                    continue
        assert trap.count == expected


def test_a_trap_for_one_transaction_does_not_affect_others(notes: Notes, proxy: Proxy) -> None:
    with closing(notes.open()) as other, closing(notes.open()) as connection:
        trap = proxy.drop_commit("41 + 1")
        connection.cursor().execute("select 41 + 1")
        other.commit()

        with pytest.raises(psycopg2.OperationalError):
            connection.commit()

    assert trap.count == 1
    assert notes.count() == 1


def test_the_word_commit_in_a_value_does_not_fire_a_trap(notes: Notes, proxy: Proxy) -> None:
    with closing(notes.open()) as connection:
        trap = proxy.drop_commit()
        connection.cursor().execute("select 'COMMIT'")

        assert not trap.fired.is_set()


@pytest.mark.parametrize("deliver", [False, True])
def test_reset_statement_breaks_only_the_connection_of_the_statement(
    notes: Notes, proxy: Proxy, *, deliver: bool
) -> None:
    with closing(notes.open()) as other, closing(notes.open()) as connection:
        proxy.reset_statement("41 + 1", deliver=deliver)
        other.cursor().execute("select 1")

        with pytest.raises(psycopg2.OperationalError):
            connection.cursor().execute("select 41 + 1")

        other.commit()
    assert notes.count() == 1


def test_reset_breaks_open_connections_and_accepts_new_ones(notes: Notes, proxy: Proxy) -> None:
    with closing(notes.open()) as connection:
        assert proxy.reset() >= 1

        with pytest.raises(psycopg2.OperationalError):
            connection.cursor().execute("select 1")

    notes.open().close()


def test_refuse_refuses_connections_until_pass_through(notes: Notes, proxy: Proxy) -> None:
    proxy.refuse()

    with pytest.raises(psycopg2.OperationalError, match="refused"):
        notes.open()

    proxy.pass_through()
    notes.open().close()


def test_a_blackhole_accepts_connections_and_sends_nothing(proxy: Proxy) -> None:
    proxy.blackhole()

    with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3) as connection:
        connection.sendall(STARTUP)

        with pytest.raises(TimeoutError):
            connection.recv(1)

        proxy.pass_through()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_held_data_is_delivered_after_pass_through(notes: Notes, proxy: Proxy) -> None:
    connection = notes.open()
    proxy.hold()
    committing = _in_background(connection.commit)
    time.sleep(0.2)
    assert notes.count() == 0
    assert committing.is_alive()

    proxy.pass_through()

    committing.join(5)
    connection.close()
    assert notes.count() == 1


def test_a_retargeted_proxy_sends_new_connections_to_the_new_port(proxy: Proxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        proxy.retarget(other.getsockname()[1])

        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5):
            other.settimeout(5)
            other.accept()[0].close()


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


def test_postgres_keeps_its_port_and_data_after_kill_restart_and_freeze(new_postgres: Callable[[], Postgres]) -> None:
    postgres = new_postgres()
    port = postgres.port
    postgres.execute("create table notes as select 1")

    postgres.kill()
    assert not postgres.is_running()
    postgres.start()
    postgres.restart()
    postgres.freeze()
    assert {processes.state_letter(pid) for pid in [postgres.pid, *processes.descendants(postgres.pid)]} == {"T"}
    postgres.thaw()

    assert postgres.port == port
    assert postgres.execute("select count(*) from notes") == [(1,)]


def test_a_standby_has_what_was_committed_before_the_primary_died(new_postgres: Callable[[], Postgres]) -> None:
    primary = new_postgres()
    standby = primary.start_standby()
    try:
        primary.execute("create table notes as select 1")
        primary.kill()

        standby.promote()

        assert standby.execute("select count(*) from notes") == [(1,)]
        standby.execute("insert into notes values (2)")
    finally:
        standby.close()


def test_a_single_backend_can_be_frozen_or_killed(postgres: Postgres, service: Service) -> None:
    backend = postgres.freeze_backend()
    assert processes.state_letter(backend) == "T"
    postgres.thaw_backend(backend)

    assert postgres.kill_one_backend(backend) == backend
    eventually(lambda: not processes.is_alive(backend), 5, "it survived")


# --- Service, load, invariants --------------------------------------------------------------------------------------


def test_a_killed_service_keeps_its_port_and_data_when_started_again(service: Service) -> None:
    secrets = service.own_secrets()
    service.kill()
    assert service.survivors() == []
    assert service.get("/livez") is None

    service.start()

    assert service.get("/livez") == 200
    assert service.own_secrets() == secrets


def test_a_load_without_faults_satisfies_every_invariant(postgres: Postgres, service: Service) -> None:
    with Load(service, clients=4, limit=100) as load:
        answers = load.wait()

    assert {answer.status for answer in answers} == {201}, summarize(answers)
    assert len(answers) == 100
    check_invariants(postgres, service, answers)


def test_a_request_without_a_response_has_no_status(client: Client, service: Service) -> None:
    service.freeze()
    answer = client.create(timeout=0.2)
    service.thaw()

    assert (answer.status, answer.code) == (None, "broken")
    assert client.repeat(answer).status == 201


@pytest.fixture(scope="module")
def damageable(template: Postgres) -> Iterator[tuple[Postgres, Service, list[Answer]]]:
    """A service with four users, whose tables have no constraint that prevents damage."""
    with closing(Postgres(template).start()) as postgres, closing(Service(postgres.url()).start()) as service:
        answers = burst(service, requests=4, parallel=2)
        postgres.execute("alter table users drop constraint users_id_attempt_status_fkey")
        for table in TABLES:
            postgres.execute(f"create table {table}_before as table {table}")
        yield postgres, service, answers


TABLES = ("attempts", "users")
FULL_PHONE = "update attempts set phone_masked = phone from users where users.username = sent ->> 'username'"
DIGITS_IN_HASH = (
    "update attempts set key_hash = decode(lpad(right(phone, 10), 64, 'a'), 'hex') from users where users.username ="
    " sent ->> 'username'"
)


def _restore_tables(postgres: Postgres) -> None:
    """Undo the damage of other tests."""
    for table in TABLES:
        postgres.execute(f"truncate {table}")
        postgres.execute(f"insert into {table} overriding system value table {table}_before")


@pytest.mark.parametrize(
    ("invariant", "damage"),
    [
        ("I1", "delete from attempts"),
        ("I4", "update attempts set answered = 503"),
        ("I2", "delete from users"),
        ("I3", "update users set password_hash = 'hmac-sha256$0$0$0'"),
        ("I7", "update attempts set email_masked = sent ->> 'username' || '@mail.example.org'"),
        ("I7", FULL_PHONE),
    ],
)
def test_each_invariant_detects_damaged_tables(
    damageable: tuple[Postgres, Service, list[Answer]], invariant: str, damage: str
) -> None:
    postgres, service, answers = damageable
    _restore_tables(postgres)
    check_invariants(postgres, service, answers)

    # The tables are locked first, so that upkeep of the service cannot deadlock with the damage
    postgres.execute(f"lock table users, attempts in exclusive mode; {damage}")

    with pytest.raises(AssertionError, match=invariant):
        check_invariants(postgres, service, answers, drain_s=0.2)


def test_digits_of_a_phone_within_a_hash_are_no_leak(damageable: tuple[Postgres, Service, list[Answer]]) -> None:
    postgres, service, answers = damageable
    _restore_tables(postgres)

    postgres.execute(DIGITS_IN_HASH)

    check_invariants(postgres, service, answers)


def test_a_session_that_idles_in_a_transaction_is_detected(
    postgres: Postgres, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.chaos.invariants.IDLE_S", 0.2)
    with closing(psycopg2.connect(postgres.url())) as connection:
        connection.cursor().execute("select 1")

        with pytest.raises(AssertionError, match="I5"):
            check_invariants(postgres, service, [])


def test_an_error_in_the_log_is_detected_unless_it_is_allowed(postgres: Postgres, service: Service) -> None:
    with service.stderr.open("a") as log:
        log.write('{"level": "ERROR", "message": "unexpected failure"}\n')

    with pytest.raises(AssertionError, match="I6"):
        check_invariants(postgres, service, [])
    check_invariants(postgres, service, [], allowed_errors=["unexpected failure"])


def test_an_idempotency_key_in_the_log_is_detected(postgres: Postgres, service: Service, client: Client) -> None:
    answer = client.post(new_body(), new_key())
    size = service.stderr.stat().st_size
    with service.stderr.open("a") as log:
        log.write(f'{{"level": "INFO", "message": "{answer.key}"}}\n')
    try:
        with pytest.raises(AssertionError, match="I7"):
            check_invariants(postgres, service, [answer])
    finally:
        with service.stderr.open("r+") as log:
            log.truncate(size)
