"""PostgreSQL may be away: every transaction is bounded by a deadline, and an outage is recognised in one place.

libpq has no time limit that covers a frozen server (docs/adr/0004): psycopg2's wait callback, which replaces its
blocking calls for the whole process, gives one to connect, execute, commit and rollback alike.
"""

import logging
import random
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from project.domain.errors import DatabaseUnavailableError, OutcomeUnknownError

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

RETRY_FIRST_S, RETRY_MOST_S = 0.02, 0.4
"""Bounds of the pause before the next try; drawn anew each time so that clients do not return in step."""
STATEMENT_TIMEOUT_S = 2
"""What create_app() tells PostgreSQL."""

_TRANSIENT = frozenset({
    "40001", "40P01",  # serialization failure, deadlock
    "55P03", "57014", "25P03",  # lock, statement, idle-in-transaction timeout
    "25006", "53100", "53200", "53300",  # read-only (a failover under way), disk full, no memory, no slots
})  # fmt: skip
_TRANSIENT_CLASSES = ("08", "57P")
"""Connection exceptions; shutdown, crash recovery, starting up."""
_MISCONFIGURED_CLASSES = ("28", "3D", "42")
"""Wrong password, no such database, no such table: trying again cannot help, an operator can."""

_limit = threading.local()


class QueryError(Exception):
    """PostgreSQL refused a statement that it should have taken: a defect of ours.

    It names class, SQLSTATE and constraint, nothing else: the driver's own message quotes whole rows, personal data
    and all, and must not get into a log.
    """


class DeadlineError(psycopg2.OperationalError):
    """PostgreSQL did not answer in time; psycopg2 closes the connection on which it happens."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Bound everything that this thread asks of PostgreSQL inside the block. An outer, nearer deadline wins."""
    outer: float | None = getattr(_limit, "at", None)
    ours = time.monotonic() + seconds
    _limit.at = ours if outer is None else min(ours, outer)
    try:
        yield
    finally:
        _limit.at = outer


def remaining() -> float | None:
    """Return the seconds left for this thread, None when it has no deadline (migrations have none)."""
    at: float | None = getattr(_limit, "at", None)
    return None if at is None else at - time.monotonic()


def install() -> None:
    """Make psycopg2 keep the deadline, in the whole process. COPY does not work any more: nothing here uses it."""
    extensions.set_wait_callback(_wait)


def _wait(connection: extensions.connection) -> None:
    while (state := connection.poll()) != extensions.POLL_OK:
        left = remaining()
        if left is not None and left <= 0:
            raise DeadlineError("PostgreSQL did not answer before the deadline")
        poller = select.poll()  # select() dies of file descriptors beyond 1023
        poller.register(connection.fileno(), select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
        poller.poll(None if left is None else max(1, left * 1000))


class Database:
    """The way to PostgreSQL: one transaction at a time, inside a deadline, tried again while that is safe."""

    def __init__(self, engine: Callable[[], Engine], deadline_s: float) -> None:
        self._engine = engine
        self._deadline_s = deadline_s

    def transact(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in one transaction and commit it.

        It is run again after a broken connection, even one that broke during COMMIT: `work` must tell a second run of
        itself by an id that it claims first. Raises DatabaseUnavailableError when nothing was committed in time, and
        OutcomeUnknownError when that cannot be told.
        """
        maybe = False
        with deadline(self._deadline_s):
            for pause in _pauses():
                committing = False
                try:
                    with self._engine().connect() as connection, connection.begin() as transaction:
                        result = work(connection, *args, **kwargs)
                        committing = True
                        transaction.commit()
                        return result
                except (DBAPIError, PoolTimeoutError) as error:
                    if not _is_outage(error):
                        raise QueryError(_cause(error)) from None
                    maybe = maybe or (committing and _is_broken(error))
                    if not _worth_retrying(error, pause):
                        log.warning("database unavailable", extra={"cause": _cause(error), "maybe": maybe})
                        raise (OutcomeUnknownError if maybe else DatabaseUnavailableError) from error
                    time.sleep(pause)
        raise AssertionError("unreachable: the pauses never end")

    def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the question `work`, which changes nothing. Raises DatabaseUnavailableError."""
        try:
            return self.transact(work, *args, **kwargs)
        except OutcomeUnknownError as error:
            raise DatabaseUnavailableError from error


def _pauses() -> Iterator[float]:
    """Exponential backoff with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter")."""
    ceiling = RETRY_FIRST_S
    while True:
        yield random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing
        ceiling = min(2 * ceiling, RETRY_MOST_S)


def sqlstate(error: BaseException) -> str | None:
    """Return PostgreSQL's own code of an error, None when the server did not get to say one."""
    return getattr(getattr(error, "orig", None), "pgcode", None)


def is_timeout(error: BaseException) -> bool:
    """Tell whether the statement itself took too long (57014), the server being well."""
    return sqlstate(error) == "57014"


def _is_outage(error: DBAPIError | PoolTimeoutError) -> bool:
    """Tell an outage from a defect of ours. psycopg2 often gives no SQLSTATE: then the class of the error decides."""
    code = sqlstate(error)
    if code is None:
        return isinstance(error, PoolTimeoutError) or isinstance(
            error.orig, psycopg2.OperationalError | psycopg2.InterfaceError
        )
    return code in _TRANSIENT or code.startswith(_TRANSIENT_CLASSES + _MISCONFIGURED_CLASSES)


def _is_broken(error: DBAPIError | PoolTimeoutError) -> bool:
    """Tell whether the connection was lost, so that what the server did last is not known."""
    return sqlstate(error) is None


def _worth_retrying(error: DBAPIError | PoolTimeoutError, pause: float) -> bool:
    left = remaining() or 0
    if is_timeout(error) and left < STATEMENT_TIMEOUT_S:
        return False  # asked again it would end as a deadline, which hides the cause
    if (sqlstate(error) or "").startswith(_MISCONFIGURED_CLASSES):
        log.error("database misconfigured", extra={"cause": _cause(error)})
        return False
    return left > pause


def _cause(error: DBAPIError | PoolTimeoutError) -> str:
    """Name an error without its statement and parameters, which hold personal data."""
    origin = getattr(error, "orig", None) or error
    constraint = getattr(getattr(origin, "diag", None), "constraint_name", None)
    return " ".join(filter(None, (type(origin).__name__, sqlstate(error), constraint)))
