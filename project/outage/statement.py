"""A statement that is a transaction by itself: one round trip, parsed and planned once for each connection."""

from collections.abc import Sequence
from typing import Any

from psycopg2 import errors, extensions
from sqlalchemy.pool import PoolProxiedConnection

Row = tuple[Any, ...]

_NOT_PREPARED = (
    errors.InvalidSqlStatementName,  # a pooler between us gives each transaction another session
    errors.DuplicatePreparedStatement,  # the same
    errors.FeatureNotSupported,  # a migration changed what the statement returns
)


class Statement:
    """SQL that returns rows, with `{}` for all its `arguments`.

    PostgreSQL parses and plans it once for each connection, under its name: a quarter of its time otherwise (measured).
    """

    def __init__(self, name: str, sql: str, arguments: int) -> None:
        self.name = name
        self._prepare = f"prepare {name} as {sql.format(', '.join(f'${n}' for n in range(1, arguments + 1)))}"
        marks = ", ".join(["%s"] * arguments)
        self._execute = f"execute {name} ({marks})"
        self.plain = sql.format(marks)
        """For those who run it inside a transaction of their own."""

    def run(self, connection: PoolProxiedConnection, values: Sequence[object]) -> list[Row]:
        """Run it in a transaction of its own and return its rows. Raises what psycopg2 raises."""
        driver: extensions.connection = connection.driver_connection  # type: ignore[assignment]
        driver.autocommit = True
        try:
            with driver.cursor() as cursor:
                try:
                    if self.name not in connection.info:
                        connection.info[self.name] = True
                        cursor.execute(self._prepare)
                    cursor.execute(self._execute, values)
                except _NOT_PREPARED:
                    cursor.execute(self.plain, values)
                return cursor.fetchall()
        finally:
            if not driver.closed:
                driver.autocommit = False
