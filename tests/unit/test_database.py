"""The parts of the way to PostgreSQL that need none: turns, the breaker, what errors mean, several hosts."""

import threading
from typing import Any

import psycopg2
import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import NullPool

from project.database import ReadDatabase, deadline, errors, hosts, install_host_failover
from project.database.breaker import Breaker
from project.database.semaphore import FairSemaphore


def test_a_gate_lets_in_as_many_as_there_are_places() -> None:
    semaphore = FairSemaphore(2)

    assert [semaphore.acquire(0), semaphore.acquire(0), semaphore.acquire(0)] == [True, True, False]
    semaphore.release()
    assert semaphore.acquire(0)


def test_a_queue_that_is_full_is_no_place_to_wait() -> None:
    semaphore = FairSemaphore(1, queue=0)

    assert [semaphore.acquire(0), semaphore.acquire(60)] == [True, False]


def test_a_gate_lets_in_whoever_has_waited_longest() -> None:
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


def test_a_breaker_opens_when_nobody_succeeded_while_one_waited() -> None:
    breaker = Breaker("test")

    breaker.record_failure(since=1.0)
    assert breaker.is_open
    breaker.close()
    assert not breaker.is_open


def test_one_stuck_connection_opens_nothing() -> None:
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
        """SQLSTATE."""
        return self.code


def trouble(code: str | None, text: str = "") -> DBAPIError:
    """Return an error as SQLAlchemy raises it."""
    return OperationalError("statement", {}, WithCode(code, text))


@pytest.mark.parametrize(
    ("error", "outage", "away", "broken", "misconfigured"),
    [
        (trouble(None), True, True, True, False),
        (trouble("57P01"), True, True, True, False),
        (trouble("57P03"), True, True, True, False),
        (trouble("08006"), True, True, True, False),
        (trouble("25006"), True, True, False, False),
        (trouble("53100"), True, True, False, False),
        (trouble("53300"), True, True, False, False),
        (trouble("58030"), True, True, False, False),
        (trouble("XX000"), True, True, False, False),
        (trouble("40P01"), True, False, False, False),
        (trouble("55P03"), True, False, False, False),
        (trouble("57014"), True, False, False, False),
        (trouble("28P01"), True, True, False, True),
        (trouble("3D000"), True, True, False, True),
        (trouble("42P01"), True, False, False, True),
        (trouble(None, 'FATAL: password authentication failed for user "u"'), True, True, True, True),
        (trouble(None, 'FATAL: database "d" does not exist'), True, True, True, True),
        (trouble("23514"), False, False, False, False),
        (trouble("22021"), False, False, False, False),
        (PoolTimeoutError("all connections are in use"), True, False, False, False),
    ],
)
def test_what_an_error_means(
    error: DBAPIError | PoolTimeoutError, outage: bool, away: bool, broken: bool, misconfigured: bool
) -> None:
    assert errors.is_outage(error) == outage
    assert errors.is_unavailable(error) == away
    assert errors.is_broken(error) == broken
    assert errors.is_misconfigured(error) == misconfigured


@pytest.fixture
def no_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host names are passed to the driver as they are."""
    monkeypatch.setattr(hosts, "_addresses", lambda _: [{}])


@pytest.mark.usefixtures("no_lookups")
def test_of_several_hosts_the_one_that_answered_last_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def connect(**options: Any) -> Any:
        asked.append((options["host"], options["port"]))
        if options["host"] != "b":
            raise psycopg2.OperationalError("refused")
        raise SystemExit("far enough")

    monkeypatch.setattr(psycopg2, "connect", connect)
    engine = create_engine("postgresql+psycopg2://u@/d?host=a:1&host=b:2&host=c:3", poolclass=NullPool)
    install_host_failover(engine)

    with pytest.raises(SystemExit):
        engine.connect()

    assert asked == [("a", "1"), ("b", "2")]


@pytest.mark.usefixtures("no_lookups")
def test_a_host_that_takes_all_the_time_is_not_asked_first_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def connect(**options: Any) -> Any:
        asked.append(options["host"])
        raise psycopg2.OperationalError("no answer")

    monkeypatch.setattr(psycopg2, "connect", connect)
    engine = create_engine("postgresql+psycopg2://u@/d?host=a&host=b", poolclass=NullPool)
    install_host_failover(engine)

    for _ in range(2):
        with deadline(0), pytest.raises(OperationalError):
            engine.connect()

    assert asked == ["a", "b"]


@pytest.mark.usefixtures("no_lookups")
def test_when_no_host_answers_the_last_one_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(**options: Any) -> Any:
        raise psycopg2.OperationalError(f"no answer from {options['host']}")

    monkeypatch.setattr(psycopg2, "connect", connect)
    engine = create_engine("postgresql+psycopg2://u@/d?host=a&host=b", poolclass=NullPool)
    install_host_failover(engine)

    with pytest.raises(OperationalError, match="no answer from b"):
        engine.connect()


def test_a_lag_is_that_of_ones_own_answer_whatever_others_are_answered() -> None:
    engine = create_engine("postgresql+psycopg2://", poolclass=NullPool)
    reading = ReadDatabase(engine, 1, name="reading", permits=1, connections=1)
    reading.lag_s = 8

    other = threading.Thread(target=setattr, args=(reading, "lag_s", 0.0))
    other.start()
    other.join()

    assert reading.lag_s == 8
