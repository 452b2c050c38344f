"""A picture of the attempts to which nothing is added any more: where it ends, and who may still add to it.

Numbers of a sequence are no order of commits. Who inserts takes its lock on the table before it draws its number, and
keeps it until its transaction ends. A lock of our own that conflicts with it would also wait for every vacuum, and make
writers wait behind us.
"""

from sqlalchemy import Connection, func, select, text

from project.models import Attempt

_WRITERS = text("""
    select virtualtransaction from pg_locks
     where relation = 'attempts'::regclass and mode = 'RowExclusiveLock' and granted
       and database = (select oid from pg_database where datname = current_database())
""")


def find_newest(connection: Connection) -> int:
    """Return the sequence number of the last recorded attempt, 0 when there is none: it closes a picture."""
    return connection.execute(select(func.coalesce(func.max(Attempt.seq), 0))).scalar_one()


def find_end(connection: Connection) -> tuple[int, frozenset[str]]:
    """Return the last number of the picture, and the transactions that may still add an earlier one."""
    newest = find_newest(connection)
    return newest, find_writers(connection)


def find_writers(connection: Connection) -> frozenset[str]:
    """Return the transactions that are writing attempts at this moment."""
    return frozenset(connection.execute(_WRITERS).scalars())
