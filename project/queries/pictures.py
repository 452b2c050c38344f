"""A picture of the attempts to which nothing is added any more."""

from sqlalchemy import Connection, text

from project.queries.counts import find_newest

_WRITERS = text("""
    select virtualtransaction from pg_locks
     where relation = 'attempts'::regclass and mode = 'RowExclusiveLock' and granted
       and database = (select oid from pg_database where datname = current_database())
""")


def find_end(connection: Connection) -> tuple[int, frozenset[str]]:
    """Return the last number of the picture, and the transactions that may still add an earlier one.

    Numbers of a sequence are no order of commits. Who inserts takes its lock on the table before it draws its number.
    """
    newest = find_newest(connection)
    return newest, find_writers(connection)


def find_writers(connection: Connection) -> frozenset[str]:
    """Return the transactions that are writing attempts at this moment."""
    return frozenset(connection.execute(_WRITERS).scalars())
