"""The way to PostgreSQL: one transaction at a time, inside a deadline, tried again while that is safe."""

import logging
import math
import random
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar, cast

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import PoolProxiedConnection

from project.domain.errors import DatabaseUnavailableError, OutcomeUnknownError, OverloadedError
from project.outage import errors
from project.outage.breaker import Breaker
from project.outage.deadline import deadline, remaining
from project.outage.gate import Gate
from project.outage.statement import Question, Row, Statement

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)
_random = random.SystemRandom()

RETRY_FIRST_S, RETRY_MOST_S = 0.02, 0.4
"""Bounds of the pause before the next try; drawn anew each time so that clients do not return in step."""
LEAST_S = 0.1
"""What a try must have: one that the deadline cuts off leaves doubt about what PostgreSQL would have refused."""
SLOT_WAIT_S = 0.2
"""How long a thread may wait for its turn before it turns its request away."""
PROBE_S = 1.5
"""Longer than PostgreSQL lets a statement wait for a lock, so that it gets to say so."""
_COMPLAIN_EVERY_S = 60


class QueryError(Exception):
    """PostgreSQL refused a statement that it should have taken: a defect of ours.

    It names class, SQLSTATE and constraint, nothing else: the driver's own message quotes whole rows, personal data
    and all, and must not get into a log.
    """


class Database:
    """A way to PostgreSQL with room for `slots` threads, so that those who wait are never all that there are.

    At most `queue` more may wait for a slot. Of those in a slot `connections` at a time use a connection; the pool of
    `engine` has one more, for the probe. Nobody waits for the return of one that is a `spare`: somebody else answers.
    """

    def __init__(
        self,
        engine: Engine,
        deadline_s: float,
        *,
        name: str,
        slots: int,
        connections: int,
        queue: int | None = None,
        is_spare: bool = False,
    ) -> None:
        self._engine = engine
        self._deadline_s = deadline_s
        self._slots = Gate(slots, queue)
        self._turns = Gate(connections)
        self._complained = -math.inf
        self.connections = connections
        self._is_spare = is_spare
        self.breaker = Breaker(name)

    @property
    def in_use(self) -> int:
        """How many connections work at the moment."""
        return self._turns.taken

    @property
    def waiting(self) -> int:
        """How many threads wait for a slot or a connection."""
        return self._slots.waiting + self._turns.waiting

    def transact(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in one transaction and commit it.

        It is run again after a broken connection, even one that broke during COMMIT: `work` must tell a second run of
        itself by an id that it claims first. Raises DatabaseUnavailableError when nothing was committed in time,
        OutcomeUnknownError when that cannot be told, OverloadedError when too many wait already.
        """

        def once(doubt: "_Doubt") -> T:
            with self._engine.connect() as connection, connection.begin() as transaction:
                result = work(connection, *args, **kwargs)
                doubt.arise()
                transaction.commit()
            return result

        with deadline(self._deadline_s), self._slot():
            return self._persist(once)

    def run(self, statement: Statement, *values: object) -> list[Row]:
        """Run one statement that is a transaction by itself, and return its rows: one round trip instead of three.

        As transact(), but from the moment it is sent until PostgreSQL has answered nobody knows whether it is
        committed.
        """
        return self._alone(partial(statement.run, values=values))

    def find(self, statement: Statement, *values: object) -> list[Row]:
        """As run(), for a statement that changes nothing. Raises DatabaseUnavailableError or OverloadedError."""
        with _no_doubt():
            return self.run(statement, *values)

    def ask(self, question: Question, **values: object) -> list[Row]:
        """Ask a question that is a transaction by itself. Raises DatabaseUnavailableError or OverloadedError."""
        with _no_doubt():
            return self._alone(partial(question.run, values=values))

    def _alone(self, run: Callable[[PoolProxiedConnection], list[Row]]) -> list[Row]:
        def once(doubt: "_Doubt") -> list[Row]:
            connection = self._engine.raw_connection()
            try:
                if _was_closed(connection):
                    raise psycopg2.OperationalError("the server closed the connection while it rested")
                doubt.arise()
                return run(connection)
            except psycopg2.Error as error:
                if errors.is_broken(error):
                    connection.invalidate(error)
                    self._engine.dispose()  # what took this connection has taken those that wait in the pool
                raise
            finally:
                connection.close()

        with deadline(self._deadline_s), self._slot():
            return self._persist(once)

    def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the question `work`, which changes nothing. Raises DatabaseUnavailableError or OverloadedError."""
        with _no_doubt():
            return self.transact(work, *args, **kwargs)

    def probe(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` once, whether or not PostgreSQL is thought to be away, and let everybody know how it went.

        Raises DatabaseUnavailableError.
        """
        try:
            with deadline(PROBE_S), self._engine.connect() as connection, connection.begin():
                result = work(connection, *args, **kwargs)
        except (DBAPIError, PoolTimeoutError) as error:
            raise self._ending(error, maybe=False) from None
        self.breaker.close()
        return result

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if self.breaker.is_open:
            raise DatabaseUnavailableError
        if not self._slots.enter(SLOT_WAIT_S):
            raise OverloadedError
        try:
            yield
        finally:
            self._slots.leave()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.enter(max(0, remaining() or 0)):
            raise PoolTimeoutError("all connections are in use")
        try:
            yield
        finally:
            self._turns.leave()

    def _persist(self, once: Callable[["_Doubt"], T]) -> T:
        """Do something once, and again while that can help and there is time."""
        began = time.monotonic()
        maybe = False
        for ceiling in _ceilings():
            doubt = _Doubt()
            try:
                with self._turn():
                    result = once(doubt)
            except (DBAPIError, psycopg2.Error, PoolTimeoutError) as error:
                maybe = maybe or (doubt.is_there and errors.is_broken(error))
                ending = self._ending(error, maybe=maybe)
                if isinstance(ending, QueryError):
                    raise ending from None
                pause = _random.uniform(0, ceiling)
                if _worth_retrying(error, pause) and not (self._is_spare and errors.is_away(error)):
                    time.sleep(pause)
                    continue
                if errors.is_away(error):
                    self.breaker.give_up(began)
                log.warning("database unavailable", extra={"cause": errors.cause(error), "maybe": maybe})
                raise ending from error
            self.breaker.succeed()
            return result
        raise AssertionError("unreachable: the ceilings never end")

    def _ending(self, error: errors.Trouble, *, maybe: bool) -> Exception:
        """Return what to raise for an error; say loudly, but not all the time, when an operator is needed."""
        if not errors.is_outage(error):
            return QueryError(errors.cause(error))
        if errors.is_misconfigured(error) and time.monotonic() - self._complained > _COMPLAIN_EVERY_S:
            self._complained = time.monotonic()
            log.error("database misconfigured", extra={"cause": errors.cause(error)})
        return OutcomeUnknownError() if maybe else DatabaseUnavailableError()


class _Doubt:
    """Whether something may have been committed although nobody said so."""

    is_there = False

    def arise(self) -> None:
        """From now on a broken connection tells nothing about the transaction on it."""
        self.is_there = True


@contextmanager
def _no_doubt() -> Iterator[None]:
    """What changes nothing leaves nothing behind, whether or not it is known to have run."""
    try:
        yield
    except OutcomeUnknownError as error:
        raise DatabaseUnavailableError from error


def _was_closed(connection: PoolProxiedConnection) -> bool:
    """Tell whether the server has said something to a connection that rested: it says only farewell to those.

    Asked before anything is sent: then nobody need wonder what became of it.
    """
    poller = select.poll()
    poller.register(cast(extensions.connection, connection.driver_connection), select.POLLIN)
    return bool(poller.poll(0))


def _ceilings() -> Iterator[float]:
    """Bound the pauses exponentially, for full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter")."""
    ceiling = RETRY_FIRST_S
    while True:
        yield ceiling
        ceiling = min(2 * ceiling, RETRY_MOST_S)


def _worth_retrying(error: errors.Trouble, pause: float) -> bool:
    left = remaining() or 0
    if errors.is_timeout(error):
        return False  # it would take as long again, and a deadline hides the cause
    return left > pause + LEAST_S and not errors.is_misconfigured(error)
