"""The class Database, which runs transactions within a deadline and retries them safely."""

import logging
import math
import random
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar, cast

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from project.database import errors
from project.database.breaker import Breaker
from project.database.deadline import deadline, remaining_seconds
from project.database.group_commit import GroupCommit, GroupFailedError, Member
from project.database.hosts import detect_silence
from project.database.pending_writers import PendingWriters
from project.database.prepared import PreparedQuery, PreparedStatement, Row
from project.database.semaphore import FairSemaphore
from project.domain.errors import (
    DatabaseUnavailableError,
    OutcomeUnknownError,
    OverloadedError,
    QueryTimeoutError,
    RefusalError,
    WritesRefusedError,
)

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)
_random = random.SystemRandom()

RETRY_MIN_S, RETRY_MAX_S = 0.02, 0.4
"""Bound in seconds of the pause before the first retry, and its maximum: each retry doubles the bound. Pauses are
random, so that clients do not retry at the same time (AWS Architecture Blog, "Exponential Backoff And Jitter")."""
MIN_TRY_S = 0.1
"""Minimum seconds until the deadline for a retry. If a retry exceeds the deadline, its outcome is unknown."""
PERMIT_WAIT_S = 0.2
"""Seconds for which a thread waits for a permit. After that, OverloadedError is raised."""
_MISCONFIGURED_LOG_INTERVAL_S = 60

Trace = Callable[[str], AbstractContextManager[object]]
"""Takes the name of a database operation; returns a context manager that traces the operation as a span."""


class QueryError(Exception):
    """PostgreSQL rejected a statement because of a bug in this service.

    The message consists of error class, SQLSTATE and constraint. The driver's message must not be logged, because it
    quotes rows with personal data.
    """


class Database:
    """A connection pool with admission control, deadline, retries and a circuit breaker.

    At most `permits` threads are admitted at a time and `max_waiting` more may wait (any number if None), so that slow
    queries do not occupy all threads of the process. At most `connections` of the admitted threads use a connection at
    a time; the pool of `engine` has more connections for run_once() and check(), which need no permit. With
    `has_fallback`, transactions are not retried while the server is unavailable, because the caller falls back to
    another database.
    """

    trace: Trace | None = None
    """Traces operations that need a permit; set by http/tracing.py, None without tracing."""

    def __init__(
        self,
        engine: Engine,
        deadline_s: float,
        *,
        name: str,
        permits: int,
        connections: int,
        max_waiting: int | None = None,
        has_fallback: bool = False,
    ) -> None:
        self._engine = engine
        event.listen(engine, "checkin", _close_unless_idle)
        self._deadline_s = deadline_s
        self._permits = FairSemaphore(permits, max_waiting)
        self._connections = FairSemaphore(connections)
        self._misconfigured_logged_at = -math.inf
        self.max_connections = connections
        self._has_fallback = has_fallback
        self._groups: dict[str, GroupCommit] = {}
        self.pending_writers = PendingWriters()
        """Context manager for preparing a call of write_member(), so that a group commit waits for the thread."""
        self.breaker = Breaker(name)

    @property
    def connections_in_use(self) -> int:
        """Number of connections in use, without those of run_once() and check()."""
        return self._connections.permits_in_use

    @property
    def waiting_threads(self) -> int:
        """Number of threads that wait for a permit, for their group or for a connection."""
        gathered = sum(group.waiting_members for group in tuple(self._groups.values()))
        return self._permits.waiting_threads + gathered + self._connections.waiting_threads

    def write_transaction(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a transaction, commit it, and retry it on outages.

        A transaction whose COMMIT was not confirmed is retried, too, so `work` must be idempotent. Raises
        DatabaseUnavailableError if nothing was committed before the deadline or if the breaker is open, its subclass
        QueryTimeoutError if PostgreSQL cancelled a statement, OutcomeUnknownError if a COMMIT was not confirmed before
        the deadline, OverloadedError if no permit is free in time, and QueryError.
        """

        def try_once(commit: "_CommitState") -> T:
            with self._engine.connect() as connection, connection.begin() as transaction:
                result = work(connection, *args, **kwargs)
                commit.is_started = True
                transaction.commit()
            return result

        return self._run(getattr(work, "__name__", "transaction"), partial(self._retry, try_once))

    def read_transaction(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work`, which only reads, in a transaction and retry it on outages.

        Raises DatabaseUnavailableError, its subclass QueryTimeoutError, OverloadedError or QueryError.
        """
        with _nothing_to_commit():
            return self.write_transaction(work, *args, **kwargs)

    def write_statement(self, statement: PreparedStatement, *values: object) -> list[Row]:
        """Execute a statement in its own transaction, retry it on outages, and return its rows.

        Takes one round trip instead of three. The statement must be idempotent. Raises the errors of
        write_transaction(). OutcomeUnknownError means that the statement, which commits itself, was not confirmed.
        """
        return self._run_autocommit(statement.name, partial(statement.run, values=values))

    def write_member(self, statement: PreparedStatement, member: Member) -> Row:
        """Execute a statement for one member of a group commit; return the member's row.

        Concurrent calls share a transaction if possible. `statement` takes a JSON array of members and returns a row
        for each, in the same order. If a group fails, each of its members is tried alone. Raises the errors of
        write_statement().
        """
        groups = self._groups.get(statement.name)
        if groups is None:  # another thread may be first: setdefault() is atomic
            groups = GroupCommit(
                partial(self._execute_group, statement), partial(self._execute_alone, statement), self.pending_writers
            )
            groups = self._groups.setdefault(statement.name, groups)
        return self._run(statement.name, partial(groups.execute, member))

    def write_group(
        self, statement: PreparedStatement, members: Sequence[Member]
    ) -> list[Row | RefusalError | QueryError]:
        """Execute a statement for several members; return a row or error for each, in order.

        No two members may have a common claim (a unique value, such as a username; see Member). All members are in one
        transaction. If the transaction fails, each member is tried alone, with its own deadline. If it cannot begin,
        because the breaker is open or no permit is free, all members get that error.
        """
        try:
            with deadline(self._deadline_s / 2):
                return [*self._run(statement.name, partial(self._execute_group, statement, members))]
        except GroupFailedError as failure:
            for member in members:
                member.may_be_committed = failure.may_be_committed
        except RefusalError as refusal:
            return [refusal] * len(members)
        return [self._row_or_error(statement, member) for member in members]

    def read_statement(self, statement: PreparedStatement, *values: object) -> list[Row]:
        """Execute a statement that only reads; return its rows.

        Raises the errors of read_transaction().
        """
        with _nothing_to_commit():
            return self.write_statement(statement, *values)

    def read_query(self, query: PreparedQuery, **values: object) -> list[Row]:
        """Execute a query in its own transaction; return its rows.

        Raises the errors of read_transaction().
        """
        with _nothing_to_commit():
            return self._run_autocommit("query", partial(query.run, values=values))

    def run_once(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a transaction without retries, even if the breaker is open.

        Success closes the breaker. Raises QueryError, QueryTimeoutError after a timeout, a missed deadline or a
        conflict with another transaction, WritesRefusedError if PostgreSQL cannot write, and DatabaseUnavailableError
        in other outages, even if the COMMIT was sent. Errors of `work` propagate.
        """
        try:
            with deadline(self._deadline_s), self._engine.connect() as connection, connection.begin():
                result = work(connection, *args, **kwargs)
        except (DBAPIError, psycopg2.Error, PoolTimeoutError) as error:
            self.breaker.record_probe()
            translated = self._translate(error, may_be_committed=False)
            if errors.is_timeout_or_conflict(error):
                raise QueryTimeoutError(errors.describe(error)) from None
            if errors.refuses_writes(error):
                raise WritesRefusedError(errors.describe(error)) from None
            raise translated from None
        self.breaker.close()
        return result

    def check(self) -> None:
        """Check that PostgreSQL answers, so that an outage is noticed while there are no requests.

        Retries until an answer, until the deadline is near, or until a retry is pointless. If PostgreSQL is unavailable
        or refuses the login, opens the breaker, unless a transaction has succeeded since the start of the check. A
        successful check does not count as a success for the breaker, because COMMIT may hang while queries are
        answered.
        """
        began = self.breaker.begin_check()
        try:
            with deadline(self._deadline_s):
                while not self._try_check(began):
                    pass
        finally:
            self.breaker.end_check()

    def _try_check(self, began: float) -> bool:
        """Query PostgreSQL once; return False if the query should be retried now.

        Pauses before it returns False, except after a silent host: then another host is tried at once.
        """
        try:
            with self._engine.connect() as connection, detect_silence(connection.connection.driver_connection):
                connection.exec_driver_sql("select 1")
        except (DBAPIError, psycopg2.Error, PoolTimeoutError) as error:
            if not errors.is_unavailable(error):
                return True
            if (remaining_seconds() or 0) > RETRY_MAX_S + MIN_TRY_S and _is_worth_retrying(error):
                if not errors.is_deadline_exceeded(error):  # otherwise the host was silent: try the next host now
                    time.sleep(RETRY_MAX_S)
                return False
            self._translate(error, may_be_committed=False)
            if not self.breaker.is_open:
                log.warning("database unavailable", extra={"cause": errors.describe(error), "may_be_committed": False})
            self.breaker.record_failure(began)
        return True

    def _run_autocommit(self, name: str, run: Callable[[PoolProxiedConnection], list[Row]]) -> list[Row]:
        return self._run(name, partial(self._retry, partial(self._autocommit, run)))

    def _autocommit(self, run: Callable[[PoolProxiedConnection], list[Row]], commit: "_CommitState") -> list[Row]:
        connection = self._engine.raw_connection()
        try:
            if _was_closed(connection):
                raise psycopg2.OperationalError("the server closed the idle connection")
            commit.is_started = True
            return run(connection)
        except psycopg2.Error as error:
            if errors.is_connection_lost(error):
                connection.invalidate(error)
                self._engine.dispose()  # the pooled connections are most likely broken, too
            raise
        finally:
            connection.close()

    def _execute_group(self, statement: PreparedStatement, members: Sequence[Member]) -> list[Row]:
        """Execute a statement for all members, without retries. Raises GroupFailedError."""
        commit = _CommitState()
        try:
            rows = self._run_with_connection(
                partial(self._autocommit, partial(statement.run, values=(_json_array(members),))), commit
            )
        except (DBAPIError, psycopg2.Error, PoolTimeoutError) as error:
            may_be_committed = commit.is_started and errors.is_connection_lost(error)
            details = {"cause": errors.describe(error), "members": len(members), "may_be_committed": may_be_committed}
            log.warning("group failed", extra=details)
            raise GroupFailedError(may_be_committed=may_be_committed) from None
        self.breaker.record_success()
        return rows

    def _execute_alone(self, statement: PreparedStatement, member: Member) -> Row:
        try_once = partial(self._autocommit, partial(statement.run, values=(_json_array([member]),)))
        [row] = self._retry(try_once, may_be_committed=member.may_be_committed)
        return row

    def _row_or_error(self, statement: PreparedStatement, member: Member) -> Row | RefusalError | QueryError:
        try:
            return self._run(statement.name, partial(self._execute_alone, statement, member))
        except (RefusalError, QueryError) as error:
            return error

    def _run(self, name: str, work: Callable[[], T]) -> T:
        """Call `work` with a deadline and a permit, traced as a span.

        Raises DatabaseUnavailableError if the breaker is open, OverloadedError if there is no permit.
        """
        if self.trace is None:
            return self._run_permitted(work)
        with self.trace(name):
            return self._run_permitted(work)

    def _run_permitted(self, work: Callable[[], T]) -> T:
        with deadline(self._deadline_s):
            if self.breaker.is_open:
                raise DatabaseUnavailableError
            if not self._permits.acquire(PERMIT_WAIT_S):
                raise OverloadedError
            try:
                return work()
            finally:
                self._permits.release()

    def _retry(self, try_once: Callable[["_CommitState"], T], *, may_be_committed: bool = False) -> T:
        """Call `try_once` until it succeeds, a retry is pointless, or the deadline is near.

        Raises the errors of write_transaction().
        """
        started_at = time.monotonic()
        ceiling = RETRY_MIN_S
        while True:
            commit = _CommitState()
            try:
                result = self._run_with_connection(try_once, commit)
            except (DBAPIError, psycopg2.Error, PoolTimeoutError) as error:
                may_be_committed = may_be_committed or (commit.is_started and errors.is_connection_lost(error))
                translated = self._translate(error, may_be_committed=may_be_committed)
                if isinstance(translated, QueryError):
                    raise translated from None
                pause = min(_random.uniform(0, ceiling), (remaining_seconds() or 0) - MIN_TRY_S)
                has_other_database = self._has_fallback and errors.is_unavailable(error)
                if pause > 0 and _is_worth_retrying(error) and not has_other_database:
                    time.sleep(pause)
                    ceiling = min(2 * ceiling, RETRY_MAX_S)
                    continue
                if errors.is_unavailable(error):
                    self.breaker.record_failure(started_at)
                details = {"cause": errors.describe(error), "may_be_committed": may_be_committed}
                log.warning("database unavailable", extra=details)
                raise translated from error
            self.breaker.record_success()
            return result

    def _run_with_connection(self, try_once: Callable[["_CommitState"], T], commit: "_CommitState") -> T:
        if not self._connections.acquire(max(0, remaining_seconds() or 0)):
            raise PoolTimeoutError("all connections are in use")
        try:
            return try_once(commit)
        finally:
            self._connections.release()

    def _translate(self, error: errors.DriverError, *, may_be_committed: bool) -> Exception:
        """Return the domain error for a driver error; log misconfiguration at most once a minute."""
        if not errors.is_outage(error):
            return QueryError(errors.describe(error))
        now = time.monotonic()
        if errors.is_misconfigured(error) and now - self._misconfigured_logged_at > _MISCONFIGURED_LOG_INTERVAL_S:
            self._misconfigured_logged_at = now
            log.error("database misconfigured", extra={"cause": errors.describe(error)})
        if may_be_committed:
            return OutcomeUnknownError()
        if errors.is_query_timeout(error):
            return QueryTimeoutError(errors.describe(error))
        return DatabaseUnavailableError(errors.describe(error))


class _CommitState:
    """Whether one call of `try_once` may have committed.

    `is_started` is set just before COMMIT, or a statement that commits itself, is sent. If the connection is lost
    afterwards, the outcome is unknown.
    """

    is_started = False


def _json_array(members: Sequence[Member]) -> str:
    return f"[{','.join([member.line for member in members])}]"


@contextmanager
def _nothing_to_commit() -> Iterator[None]:
    """Convert OutcomeUnknownError into DatabaseUnavailableError, because reads commit nothing."""
    try:
        yield
    except OutcomeUnknownError as error:
        raise DatabaseUnavailableError from error


def _close_unless_idle(connection: extensions.connection | None, entry: ConnectionPoolEntry) -> None:
    """Close a connection that returns to the pool in an open or failed transaction.

    psycopg2 considers every transaction ended after COMMIT. If statement_timeout cancels the COMMIT, PostgreSQL waits
    for a ROLLBACK and refuses all other statements of the session.
    """
    if connection is not None and connection.get_transaction_status() != extensions.TRANSACTION_STATUS_IDLE:
        entry.invalidate()


def _was_closed(connection: PoolProxiedConnection) -> bool:
    """Return whether the server has closed an idle connection: its socket is readable then.

    The caller checks this before it sends a statement: if the connection was closed, nothing was sent, so the caller
    can retry.
    """
    poller = select.poll()
    poller.register(cast(extensions.connection, connection.driver_connection), select.POLLIN)
    return bool(poller.poll(0))


def _is_worth_retrying(error: errors.DriverError) -> bool:
    # After a query timeout, a retry would take as long, and the deadline would hide the cause.
    return not errors.is_query_timeout(error) and not errors.is_misconfigured(error)
