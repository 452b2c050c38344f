"""Prepared statements as their own transactions: one round trip, no SQLAlchemy overhead."""

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
    errors.InvalidSqlStatementName,  # a pooler gave this transaction another session
    errors.DuplicatePreparedStatement,  # the same
    errors.FeatureNotSupported,  # a migration changed the result type of the statement
)

_QUERY, _POOLED = " query", " pooled"  # no PreparedStatement has such a name
"""Keys of Connection.info: the query that its session has prepared, with its name; do not prepare any more."""
_SET_TIMEZONE = "set local timezone to %(timezone)s"
_DIALECT = psycopg2.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy has no types here


@contextmanager
def autocommit_cursor(connection: PoolProxiedConnection) -> Iterator[extensions.cursor]:
    """Yield a cursor whose statements are their own transactions, outside of any later one."""
    driver: extensions.connection = connection.driver_connection  # type: ignore[assignment]
    level, readonly = driver.isolation_level, driver.readonly
    is_set = level is not None or readonly is not None
    if is_set:  # otherwise psycopg2 resets each of them at the end with a round trip of its own
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


class PreparedStatement:
    """An SQL statement with rows, prepared once per session; `{}` stands for all `arguments`.

    Parsing and planning it every time takes PostgreSQL a third longer (measured). A pooler may give each transaction
    another session, in which the statement is prepared already or not yet.
    """

    def __init__(self, name: str, sql: str, arguments: int) -> None:
        self.name = name
        self.prepared_name = f"{name}_{crc32(sql.encode()):08x}"
        """Differs for another SQL text: sessions of a pooler outlive the version that prepared in them."""
        placeholders = ", ".join(["%s"] * arguments)
        self._execute = f"execute {self.prepared_name} ({placeholders})"
        parameters = ", ".join(f"${number}" for number in range(1, arguments + 1))
        self._prepare_and_execute = f"prepare {self.prepared_name} as {sql.format(parameters)}; {self._execute}"
        """In one message, which a pooler does not split."""
        self.plain = sql.format(placeholders)
        """For callers that execute it inside a transaction of their own."""

    def run(self, connection: PoolProxiedConnection, values: Sequence[object]) -> list[Row]:
        """Execute the statement as its own transaction and return its rows. Raises psycopg2.Error."""
        with autocommit_cursor(connection) as cursor:
            is_prepared = self.name in connection.info
            connection.info[self.name] = True
            forms = (self._execute, self._prepare_and_execute)
            for sql in forms if is_prepared else reversed(forms):
                with suppress(*_NOT_PREPARED):
                    cursor.execute(sql, values)
                    return cursor.fetchall()
            cursor.execute(self.plain, values)
            return cursor.fetchall()


class PreparedQuery:
    """A query that is executed repeatedly for a while, with new values for its `parameters`.

    Times in its texts are in `timezone`. Results are bytes: decoding a file and encoding it again would cost as much as
    the rest of an export. A session parses the query once and soon keeps its plan, which saves nine tenths of that time
    (measured), until it prepares another one. Behind a pooler, where sessions change between transactions, the query is
    sent whole as soon as one session has not prepared it.
    """

    def __init__(self, query: Select[*tuple[Any, ...]], timezone: str, parameters: Sequence[str]) -> None:
        compiled = query.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
        self._sql, self._values = str(compiled), compiled.params | {"timezone": timezone}
        self._parameters = {name: extensions.AsIs(f"${number}") for number, name in enumerate(parameters, 1)}

    def run(self, connection: PoolProxiedConnection, values: Mapping[str, object]) -> list[Row]:
        """Execute the query as its own transaction and return its rows. Raises psycopg2.Error."""
        session, values = connection.info, self._values | values
        with autocommit_cursor(connection) as cursor:
            extensions.register_type(extensions.BYTES, cursor)
            if _POOLED not in session:
                with suppress(*_NOT_PREPARED):
                    self._execute_prepared(cursor, session, values)
                    return cursor.fetchall()
                session[_POOLED] = True
            cursor.execute(f"{_SET_TIMEZONE}; {self._sql}", values)
            return cursor.fetchall()

    def _execute_prepared(
        self, cursor: extensions.cursor, session: dict[str, Any], values: Mapping[str, object]
    ) -> None:
        prepared, name = session.pop(_QUERY, (None, ""))  # stored again below, once the statement has succeeded
        prepare = ""
        if prepared is not self:
            deallocate = f"deallocate {name}; " if name else ""
            name = f"query_{secrets.token_hex(8)}"
            sql = cursor.mogrify(self._sql, self._values | self._parameters).decode().replace("%", "%%")
            prepare = f"{deallocate}prepare {name} as {sql}; "
        placeholders = ", ".join(f"%({parameter})s" for parameter in self._parameters)
        cursor.execute(f"{prepare}{_SET_TIMEZONE}; execute {name} ({placeholders})", values)
        session[_QUERY] = self, name
