"""The parts of the database layer that need no server.

They are semaphore, breaker, error classification and host failover.
"""

import threading
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import NullPool

from project.database import ReadDatabase, deadline, errors, hosts, install_host_failover, remaining_seconds
from project.database.breaker import Breaker
from project.database.deadline import HostConnection, HostState
from project.database.semaphore import FairSemaphore


def test_a_semaphore_grants_as_many_acquisitions_as_it_has_permits() -> None:
    semaphore = FairSemaphore(2)

    assert [semaphore.acquire(0), semaphore.acquire(0), semaphore.acquire(0)] == [True, True, False]
    semaphore.release()
    assert semaphore.acquire(0)


def test_a_full_queue_is_refused_without_waiting() -> None:
    semaphore = FairSemaphore(1, max_waiting=0)

    assert [semaphore.acquire(0), semaphore.acquire(60)] == [True, False]


def test_a_semaphore_serves_waiting_threads_in_their_order_of_arrival() -> None:
    semaphore, order, threads = FairSemaphore(1), [], []
    semaphore.acquire(0)

    def wait(name: int) -> None:
        assert semaphore.acquire(30)
        order.append(name)
        semaphore.release()

    for name in range(5):
        threads.append(threading.Thread(target=wait, args=(name,)))
        threads[-1].start()
        while len(semaphore._waiting) <= name:
            pass
    semaphore.release()
    for thread in threads:
        thread.join()

    assert order == [0, 1, 2, 3, 4]


def test_the_breaker_opens_when_a_request_fails_and_none_has_succeeded_since_its_start() -> None:
    breaker = Breaker("test")

    breaker.record_failure(since=1.0)
    assert breaker.is_open
    breaker.close()
    assert not breaker.is_open


def test_one_stuck_connection_does_not_open_the_breaker() -> None:
    breaker = Breaker("test")
    breaker.record_success()

    breaker.record_failure(since=1.0)

    assert not breaker.is_open


class WithCode(psycopg2.OperationalError):
    """An error as PostgreSQL sends it."""

    def __init__(self, code: str | None, text: str = "") -> None:
        super().__init__(text)
        self.code = code

    @property
    def pgcode(self) -> str | None:  # type: ignore[override]
        """The SQLSTATE."""
        return self.code


def database_error(code: str | None, text: str = "") -> DBAPIError:
    """Return an error as SQLAlchemy raises it."""
    return OperationalError("statement", {}, WithCode(code, text))


@pytest.mark.parametrize(
    ("error", "outage", "unavailable", "broken", "misconfigured"),
    [
        (database_error(None), True, True, True, False),
        (database_error("57P01"), True, True, True, False),
        (database_error("57P03"), True, True, True, False),
        (database_error("08006"), True, True, True, False),
        (database_error("25006"), True, True, False, False),
        (database_error("53100"), True, True, False, False),
        (database_error("53300"), True, True, False, False),
        (database_error("58030"), True, True, False, False),
        (database_error("XX000"), True, True, False, False),
        (database_error("40P01"), True, False, False, False),
        (database_error("55P03"), True, False, False, False),
        (database_error("57014"), True, False, False, False),
        (database_error("28P01"), True, True, False, True),
        (database_error("3D000"), True, True, False, True),
        (database_error("42P01"), True, False, False, True),
        (database_error(None, 'FATAL: password authentication failed for user "u"'), True, True, True, True),
        (database_error(None, 'FATAL: database "d" does not exist'), True, True, True, True),
        (database_error("23514"), False, False, False, False),
        (database_error("22021"), False, False, False, False),
        (
            psycopg2.DatabaseError("error with status PGRES_TUPLES_OK and no message from the libpq"),
            True,
            True,
            True,
            False,
        ),
        (psycopg2.ProgrammingError("can't adapt type 'object'"), False, True, True, False),
        (PoolTimeoutError("all connections are in use"), True, False, False, False),
    ],
)
def test_errors_are_classified_by_their_sqlstate(
    error: DBAPIError | psycopg2.Error | PoolTimeoutError,
    outage: bool,
    unavailable: bool,
    broken: bool,
    misconfigured: bool,
) -> None:
    assert errors.is_outage(error) == outage
    assert errors.is_unavailable(error) == unavailable
    assert errors.is_connection_lost(error) == broken
    assert errors.is_misconfigured(error) == misconfigured


@pytest.fixture
def no_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host names are passed to the driver as they are."""
    monkeypatch.setattr(hosts, "_address_options", lambda _: [{}])


@pytest.mark.usefixtures("no_lookups")
def test_hosts_are_tried_in_order_until_one_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, str]] = []

    def connect(**options: Any) -> Any:
        tried.append((options["host"], options["port"]))
        if options["host"] != "b":
            raise psycopg2.OperationalError("refused")
        raise SystemExit("far enough")

    monkeypatch.setattr(psycopg2, "connect", connect)
    engine = create_engine("postgresql+psycopg2://u@/d?host=a:1&host=b:2&host=c:3", poolclass=NullPool)
    install_host_failover(engine)

    with pytest.raises(SystemExit):
        engine.connect()

    assert tried == [("a", "1"), ("b", "2")]


@pytest.mark.usefixtures("no_lookups")
def test_a_host_that_uses_up_the_deadline_is_not_tried_first_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def connect(**options: Any) -> Any:
        tried.append(options["host"])
        raise psycopg2.OperationalError("no answer")

    monkeypatch.setattr(psycopg2, "connect", connect)
    engine = create_engine("postgresql+psycopg2://u@/d?host=a&host=b", poolclass=NullPool)
    install_host_failover(engine)

    for _ in range(2):
        with deadline(0), pytest.raises(OperationalError):
            engine.connect()

    assert tried == ["a", "b"]


@pytest.mark.usefixtures("no_lookups")
def test_connecting_without_a_deadline_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Migrations have none: an index on a large table takes hours."""
    bounds: list[float | None] = []

    def connect(**options: Any) -> Any:
        bounds.append(remaining_seconds())
        raise psycopg2.OperationalError("no answer")

    monkeypatch.setattr(psycopg2, "connect", connect)
    engine = create_engine("postgresql+psycopg2://u@/d?host=a&host=b", poolclass=NullPool)
    install_host_failover(engine)

    with pytest.raises(OperationalError):
        engine.connect()

    assert len(bounds) == 2
    assert None not in bounds


@pytest.mark.usefixtures("no_lookups")
def test_when_no_host_answers_the_error_of_the_last_one_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(**options: Any) -> Any:
        raise psycopg2.OperationalError(f"no answer from {options['host']}")

    monkeypatch.setattr(psycopg2, "connect", connect)
    engine = create_engine("postgresql+psycopg2://u@/d?host=a&host=b", poolclass=NullPool)
    install_host_failover(engine)

    with pytest.raises(OperationalError, match="no answer from b"):
        engine.connect()


class Servers:
    """Hosts, at first `a` and `b`, of which those in `answering` accept connections."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names = "ab"
        self.answering = {"a", "b"}
        self.meanwhile: Callable[[], object] | None = None
        """Called by another thread during the next attempt to connect."""
        self.bounds: list[tuple[str, float]] = []
        monkeypatch.setattr(hosts, "_connect", self._connect)
        engine = create_engine("postgresql+psycopg2://u@/d")
        self.disposals = 0
        monkeypatch.setattr(engine, "dispose", self._dispose)
        self._failover = hosts._Failover(engine)

    def _connect(self, options: dict[str, Any]) -> HostConnection:
        self.bounds.append((options["host"], round(remaining_seconds() or 0)))
        if self.meanwhile:
            other, self.meanwhile = threading.Thread(target=self.meanwhile), None
            other.start()
            other.join()
        if options["host"] not in self.answering:
            raise psycopg2.OperationalError("no answer")
        return HostConnection.__new__(HostConnection)

    def _dispose(self) -> None:
        self.disposals += 1

    def connect(self) -> HostState:
        """Return the state of the host that answers."""
        connection = self._failover.connect_any({}, [{"host": name} for name in self.names])
        assert isinstance(connection, HostConnection)
        assert connection.host_state
        return connection.host_state


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    """Two hosts that answer."""
    return Servers(monkeypatch)


def test_connections_to_a_silent_host_are_abandoned_when_another_one_answers(servers: Servers) -> None:
    first = servers.connect()
    first.is_silent = True

    second = servers.connect()

    assert (first.host, second.host) == ({"host": "a"}, {"host": "b"})
    assert first.is_abandoned
    assert servers.disposals == 1


def test_connections_to_a_host_that_refuses_new_ones_stay_usable(servers: Servers) -> None:
    first = servers.connect()
    servers.answering = {"b"}

    assert servers.connect().host == {"host": "b"}
    assert not first.is_abandoned
    assert servers.disposals == 0


def test_a_silent_host_that_answers_again_while_no_other_does_is_kept(servers: Servers) -> None:
    first = servers.connect()
    first.is_silent, servers.answering = True, {"a"}

    assert servers.connect() is first
    assert not first.is_silent
    assert not first.is_abandoned


def test_a_silent_host_does_not_use_up_the_deadline_as_the_last_one(servers: Servers) -> None:
    servers.connect().is_silent = True
    servers.answering, servers.bounds = set(), []

    with pytest.raises(psycopg2.OperationalError):
        servers.connect()

    assert servers.bounds == [("b", hosts.HOST_CONNECT_S), ("a", hosts.HOST_CONNECT_S)]


def test_a_host_that_another_thread_has_found_meanwhile_is_tried_first(servers: Servers) -> None:
    servers.names, servers.answering, servers.meanwhile = "abc", {"c"}, servers.connect
    with deadline(0), pytest.raises(psycopg2.OperationalError):
        servers.connect()
    servers.bounds = []

    servers.connect()

    assert [host for host, _ in servers.bounds] == ["c"]


def test_the_replica_lag_is_stored_per_thread() -> None:
    engine = create_engine("postgresql+psycopg2://", poolclass=NullPool)
    read_database = ReadDatabase(engine, 1, name="reading", permits=1, connections=1)
    read_database.lag_s = 8

    other = threading.Thread(target=setattr, args=(read_database, "lag_s", 0.0))
    other.start()
    other.join()

    assert read_database.lag_s == 8
