"""What is a transaction by itself: one round trip, and nothing of SQLAlchemy when it is run."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from zlib import crc32

from psycopg2 import errors, extensions
from sqlalchemy import Select
from sqlalchemy.dialects.postgresql import psycopg2
from sqlalchemy.pool import PoolProxiedConnection

Row = tuple[Any, ...]

_NOT_PREPARED = (
    errors.InvalidSqlStatementName,  # a pooler between us gives each transaction another session
    errors.DuplicatePreparedStatement,  # the same
    errors.FeatureNotSupported,  # a migration changed what the statement returns
)

_QUESTION, _POOLED = " question", " pooled"  # no Statement has such a name
"""What is noted of a connection: the question that its session knows, and its name there; not to prepare any more."""
_CLOCK = "set local timezone to %(timezone)s"
_DIALECT = psycopg2.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy has no types here


@contextmanager
def cursor_of_its_own(connection: PoolProxiedConnection) -> Iterator[extensions.cursor]:
    """Give a cursor whose statements are transactions by themselves, outside of the one that may begin afterwards."""
    driver: extensions.connection = connection.driver_connection  # type: ignore[assignment]
    level, readonly = driver.isolation_level, driver.readonly
    is_set = level is not None or readonly is not None
    if is_set:  # psycopg2 would take a round trip for each of both at the end
        driver.set_session(isolation_level="DEFAULT", readonly="default")
    driver.autocommit = True
    try:
        with driver.cursor() as cursor:
            yield cursor
    finally:
        if not driver.closed:
            driver.autocommit = False
            if is_set:
                driver.set_session(isolation_level=level, readonly=readonly)


class Statement:
    """SQL that returns rows, with `{}` for all its `arguments`.

    PostgreSQL parses and plans it once for each session, under its name: a quarter of its time otherwise (measured).
    A pooler gives each transaction another session, which may know the statement from somebody else, or not yet.
    """

    def __init__(self, name: str, sql: str, arguments: int) -> None:
        self.name = name
        self.prepared_name = f"{name}_{crc32(sql.encode()):08x}"
        """Another one for another text: sessions of a pooler outlive the version that prepared in them."""
        marks = ", ".join(["%s"] * arguments)
        self._known = f"execute {self.prepared_name} ({marks})"
        numbers = ", ".join(f"${number}" for number in range(1, arguments + 1))
        self._new = f"prepare {self.prepared_name} as {sql.format(numbers)}; {self._known}"
        """In one message, which a pooler does not take apart."""
        self.plain = sql.format(marks)
        """For those who run it inside a transaction of their own."""

    def run(self, connection: PoolProxiedConnection, values: Sequence[object]) -> list[Row]:
        """Run it in a transaction of its own and return its rows. Raises what psycopg2 raises."""
        with cursor_of_its_own(connection) as cursor:
            ways = (self._known, self._new) if self.name in connection.info else (self._new, self._known)
            connection.info[self.name] = True
            for way in ways:
                with suppress(*_NOT_PREPARED):
                    cursor.execute(way, values)
                    return cursor.fetchall()
            cursor.execute(self.plain, values)
            return cursor.fetchall()


class Question:
    """A query that is asked again and again for a while, each time with other values of the names in `asked`.

    Texts in it are told by the clock of `timezone`. What it finds comes as bytes: to decode a file and encode it again
    would cost as much as all the rest of it. A session parses it once, and soon keeps its plan, which takes a tenth of
    the time otherwise (measured); it forgets it for the next question. Behind a pooler, where sessions change hands,
    it is sent whole as soon as one does not know it.
    """

    def __init__(self, query: Select[*tuple[Any, ...]], timezone: str, asked: Sequence[str]) -> None:
        compiled = query.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
        self._sql, self._values = str(compiled), compiled.params | {"timezone": timezone}
        self._numbers = {name: extensions.AsIs(f"${number}") for number, name in enumerate(asked, 1)}

    def run(self, connection: PoolProxiedConnection, values: Mapping[str, object]) -> list[Row]:
        """Ask in a transaction of its own and return the rows. Raises what psycopg2 raises."""
        session, values = connection.info, self._values | values
        with cursor_of_its_own(connection) as cursor:
            extensions.register_type(extensions.BYTES, cursor)
            if _POOLED not in session:
                with suppress(*_NOT_PREPARED):
                    self._execute_prepared(cursor, session, values)
                    return cursor.fetchall()
                session[_POOLED] = True
            cursor.execute(f"{_CLOCK}; {self._sql}", values)
            return cursor.fetchall()

    def _execute_prepared(
        self, cursor: extensions.cursor, session: dict[str, Any], values: Mapping[str, object]
    ) -> None:
        known, name = session.pop(_QUESTION, (None, ""))  # noted again when it is certain
        prepare = ""
        if known is not self:
            forget = f"deallocate {name}; " if name else ""
            name = f"question_{secrets.token_hex(8)}"
            numbered = cursor.mogrify(self._sql, self._values | self._numbers).decode().replace("%", "%%")
            prepare = f"{forget}prepare {name} as {numbered}; "
        marks = ", ".join(f"%({asked})s" for asked in self._numbers)
        cursor.execute(f"{prepare}{_CLOCK}; execute {name} ({marks})", values)
        session[_QUESTION] = self, name
