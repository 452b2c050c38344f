"""Reads from a replica if its lag is acceptable, otherwise from the primary.

An LSN is a position in the write-ahead log (WAL) of PostgreSQL: a replica that has replayed the primary's LSN has all
data that was committed before.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar, cast

from sqlalchemy import Connection, text

from project.database.database import Database
from project.database.deadline import deadline
from project.database.prepared import PreparedQuery, Row, autocommit_cursor
from project.domain.errors import DatabaseUnavailableError, OverloadedError, QueryTimeoutError

P = ParamSpec("P")
T = TypeVar("T")

MAX_LAG_S = 10.0
"""Maximum acceptable lag of a replica in seconds."""
LSN_MAX_AGE_S, LSN_QUERY_TIMEOUT_S = 0.5, 0.5
"""Maximum age of the cached primary LSN, and timeout of the query that refreshes it, in seconds."""

_PRIMARY_LSN = text("select pg_current_wal_lsn()::text")
_REPLAY_PROGRESS = """
    select coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, not pg_is_in_recovery()),
           extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::double precision
"""
"""Returns whether the replica has replayed an LSN, and the age in seconds of the last replayed transaction."""


class _ReplicaLagError(Exception):
    """The replica lags too far behind, or has not replayed the required LSN."""


@dataclass(frozen=True, slots=True)
class _PrimaryLsn:
    """The WAL position of the primary, and the time by time.monotonic() when it was queried."""

    lsn: str | None
    queried_at: float


class ReadDatabase(Database):
    """A database that reads from its replica if there is one and its lag is acceptable.

    Only read_transaction() and read_query() use the replica. If it fails, they use the primary. A query that times out
    on the replica is not repeated on the primary, because it would probably time out there, too.
    """

    replica: Database | None = None
    replica_lag_s = 0.0
    """Lag of the replica in seconds at the last call of measure_lag(); infinite if the replica did not answer, or if
    its lag is unknown because it has not replayed any transaction."""
    _primary_lsn = _PrimaryLsn(None, -math.inf)
    _required_lsn: str | None = None
    _last_read = threading.local()

    @property
    def lag_s(self) -> float:
        """Lag in seconds of what this thread read last; 0 if the primary replaced the replica.

        Reads through `primary` do not change it.
        """
        return getattr(self._last_read, "lag_s", 0.0)

    @lag_s.setter
    def lag_s(self, lag_s: float) -> None:
        self._last_read.lag_s = lag_s

    @property
    def primary(self) -> "ReadDatabase":
        """The same database without the replica, for reads that must include the latest commits."""
        primary = copy(self)
        primary.replica = None
        return primary

    @property
    def databases(self) -> list[Database]:
        """The primary and the replica, if there is one."""
        return [self, self.replica] if self.replica else [self]

    def find_primary_lsn(self) -> str | None:
        """Return the primary's WAL position, or None without a replica.

        Raises the errors of read_transaction().
        """
        return self.primary.read_transaction(_find_lsn) if self.replica else None

    def requiring_lsn(self, lsn: str | None) -> "ReadDatabase":
        """Return a copy of this object that uses the replica only if it has replayed `lsn`.

        None permits the replica whatever it has replayed.
        """
        restricted = copy(self)
        restricted._required_lsn = lsn
        return restricted

    def read_transaction(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like Database.read_transaction(), but on the replica if its lag is at most MAX_LAG_S."""
        if self.replica is None:
            return super().read_transaction(work, *args, **kwargs)
        self._refresh_primary_lsn()
        try:
            result, lag_s = self.replica.read_transaction(self._within_lag(work, MAX_LAG_S), *args, **kwargs)
        except QueryTimeoutError:
            raise
        except (_ReplicaLagError, DatabaseUnavailableError, OverloadedError):
            result, lag_s = super().read_transaction(work, *args, **kwargs), 0.0
        self.lag_s = lag_s
        return result

    def read_query(self, query: PreparedQuery, **values: object) -> list[Row]:
        """Like Database.read_query(), but on the replica if its lag is at most MAX_LAG_S."""
        if self.replica is None:
            return super().read_query(query, **values)
        return self.read_transaction(_read_query, query, values)

    def measure_lag(self) -> float:
        """Measure the lag of the replica; return it in seconds.

        The lag is infinite if the replica does not answer or its lag is unknown, and 0 if there is no replica.
        """
        if self.replica:
            self._refresh_primary_lsn()
            self.replica_lag_s = math.inf
            with suppress(DatabaseUnavailableError, OverloadedError):
                _, self.replica_lag_s = self.replica.read_transaction(self._within_lag(_do_nothing, math.inf))
        return self.replica_lag_s

    def _refresh_primary_lsn(self) -> None:
        """Refresh the cached LSN if it is too old; keep it if the primary is unavailable."""
        now = time.monotonic()
        if now - self._primary_lsn.queried_at > LSN_MAX_AGE_S:
            with suppress(DatabaseUnavailableError, OverloadedError), deadline(LSN_QUERY_TIMEOUT_S):
                # `now` is the time before the query, so that the lag is never underestimated.
                self._primary_lsn = _PrimaryLsn(self.find_primary_lsn(), now)

    def _within_lag(
        self, work: Callable[Concatenate[Connection, P], T], max_lag_s: float
    ) -> Callable[Concatenate[Connection, P], tuple[T, float]]:
        """Return a function that calls `work` and returns its result and the lag in seconds.

        The function raises _ReplicaLagError if the lag exceeds `max_lag_s` or the required LSN is not replayed.
        """
        required = _PrimaryLsn(self._required_lsn, time.monotonic()) if self._required_lsn else self._primary_lsn

        @wraps(work)
        def run_within_lag(connection: Connection, /, *args: P.args, **kwargs: P.kwargs) -> tuple[T, float]:
            is_replayed, age_s = _find_progress(connection, required.lsn)
            lag_s = time.monotonic() - required.queried_at if is_replayed else math.inf if age_s is None else age_s
            if lag_s > max_lag_s or (self._required_lsn and not is_replayed):
                raise _ReplicaLagError
            return work(connection, *args, **kwargs), lag_s

        return run_within_lag


def _read_query(connection: Connection, query: PreparedQuery, values: Mapping[str, object]) -> list[Row]:
    return query.run(connection.connection, values)


def _do_nothing(connection: Connection) -> None:
    pass


def _find_lsn(connection: Connection) -> str:
    return cast(str, connection.execute(_PRIMARY_LSN).scalar_one())


def _find_progress(connection: Connection, lsn: str | None) -> tuple[bool, float | None]:
    """Return whether a replica has replayed `lsn`, and its last transaction's age in seconds.

    Queries in autocommit mode, before the transaction of the caller takes its snapshot.
    The age is None if no transaction has been replayed.
    """
    with autocommit_cursor(connection.connection) as cursor:
        cursor.execute(_REPLAY_PROGRESS, (lsn,))
        return cast(tuple[bool, float | None], cursor.fetchone())
