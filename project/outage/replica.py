"""Reading from a replica for as long as that is near enough to the primary, and from the primary otherwise."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar, cast

from sqlalchemy import Connection, text

from project.domain.errors import DatabaseUnavailableError, OverloadedError
from project.outage.database import Database
from project.outage.deadline import deadline
from project.outage.errors import is_timeout
from project.outage.statement import Question, Row, cursor_of_its_own

P = ParamSpec("P")
T = TypeVar("T")

FAR_S = 10.0
"""Seconds behind from which on the primary is asked instead."""
LOOK_EVERY_S, LOOK_S = 0.5, 0.5
"""How old what is known of the primary's log may be, and how long it may take to ask."""

_POSITION = text("select pg_current_wal_lsn()::text")
_PROGRESS = """
    select coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, not pg_is_in_recovery()),
           extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::double precision
"""
"""Whether it has everything up to a position of the log; if not, how old the last transaction is that it has."""


class _FarBehindError(Exception):
    """The replica lacks what is asked for, or is too far behind."""


@dataclass(frozen=True, slots=True)
class _Position:
    """Where the log of the primary stood at a moment of time.monotonic()."""

    lsn: str | None
    at: float


class Reading(Database):
    """The primary's pool for reading. A `replica` relieves it, if there is one.

    A replica that is away or too far behind is passed over. A question for which its time is too short would take the
    primary as long: that is raised.
    """

    replica: Database | None = None
    replica_lag_s = 0.0
    """How far behind the replica was when last measured, whoever answers; infinite while it does not answer."""
    _seen = _Position(None, -math.inf)
    _least: str | None = None
    _answered = threading.local()

    @property
    def lag_s(self) -> float:
        """How far behind the last answer to this thread was, in seconds; infinite when that is not known."""
        return getattr(self._answered, "lag_s", 0.0)

    @lag_s.setter
    def lag_s(self, lag_s: float) -> None:
        self._answered.lag_s = lag_s

    @property
    def primary(self) -> "Reading":
        """The same without a replica: for what must be there as soon as it is committed."""
        alone = copy(self)
        alone.replica = None
        return alone

    @property
    def ways(self) -> list[Database]:
        """All that can be away each by itself."""
        return [self, self.replica] if self.replica else [self]

    def position(self) -> str | None:
        """Return where the primary's log stands; None without a replica. Raises as read()."""
        return self.primary.read(_find_position) if self.replica else None

    def since(self, position: str | None) -> "Reading":
        """The same, but for a replica that has not everything up to a position."""
        exact = copy(self)
        exact._least = position
        return exact

    def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the question `work`, which changes nothing. Raises DatabaseUnavailableError or OverloadedError."""
        if self.replica is None:
            return super().read(work, *args, **kwargs)
        self._look()
        try:
            result, lag_s = self.replica.read(self._if_near(work, FAR_S), *args, **kwargs)
        except (_FarBehindError, DatabaseUnavailableError, OverloadedError) as error:
            if error.__cause__ is not None and is_timeout(error.__cause__):
                raise
        else:
            self.lag_s = lag_s
            return result
        result = super().read(work, *args, **kwargs)
        self.lag_s = 0.0
        return result

    def ask(self, question: Question, **values: object) -> list[Row]:
        """As Database.ask(), of whoever read() would ask."""
        if self.replica is None:
            return super().ask(question, **values)
        return self.read(_ask, question, values)

    def measure(self) -> float:
        """Return how far behind the replica is, infinite when it does not answer or nobody knows."""
        if self.replica:
            self._look()
            self.replica_lag_s = math.inf
            with suppress(DatabaseUnavailableError, OverloadedError):
                _, self.replica_lag_s = self.replica.read(self._if_near(_nothing, math.inf))
        return self.replica_lag_s

    def _look(self) -> None:
        """Know where the primary is; while it is away, where it was last."""
        now = time.monotonic()
        if now - self._seen.at > LOOK_EVERY_S:
            with suppress(DatabaseUnavailableError, OverloadedError), deadline(LOOK_S):
                self._seen = _Position(self.position(), now)  # as of before the question: never nearer than it is

    def _if_near(
        self, work: Callable[Concatenate[Connection, P], T], most_s: float
    ) -> Callable[Concatenate[Connection, P], tuple[T, float]]:
        """Let `work` be done only if the replica is near enough; return how far behind it is, too."""
        needed = _Position(self._least, time.monotonic()) if self._least else self._seen

        def ask(connection: Connection, /, *args: P.args, **kwargs: P.kwargs) -> tuple[T, float]:
            has_it, age_s = _find_progress(connection, needed.lsn)
            lag_s = time.monotonic() - needed.at if has_it else math.inf if age_s is None else age_s
            if lag_s > most_s or (self._least and not has_it):
                raise _FarBehindError
            return work(connection, *args, **kwargs), lag_s

        return ask


def _ask(connection: Connection, question: Question, values: Mapping[str, object]) -> list[Row]:
    return question.run(connection.connection, values)


def _nothing(connection: Connection) -> None:
    """Ask nothing more."""


def _find_position(connection: Connection) -> str:
    return cast(str, connection.execute(_POSITION).scalar_one())


def _find_progress(connection: Connection, lsn: str | None) -> tuple[bool, float | None]:
    """Ask outside of the transaction that `connection` is about to begin.

    Inside, its picture would be older than the answer.
    """
    with cursor_of_its_own(connection.connection) as cursor:
        cursor.execute(_PROGRESS, (lsn,))
        return cast(tuple[bool, float | None], cursor.fetchone())
