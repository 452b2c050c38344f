"""Snapshots of attempts: the last sequence number, and writers that may add earlier ones.

Sequence numbers are not ordered by commit. A writer locks the table before it generates a number, until its transaction
ends. Taking a conflicting lock instead would also wait for every vacuum, and block writers behind it.
"""

from sqlalchemy import Connection, func, select, text

from project.models import Attempt

_WRITERS = text("""
    select virtualtransaction from pg_locks
     where relation = 'attempts'::regclass and mode = 'RowExclusiveLock' and granted
       and database = (select oid from pg_database where datname = current_database())
""")


def find_last_seq(connection: Connection) -> int:
    """Return the sequence number of the last recorded attempt, 0 if there is none."""
    return connection.execute(select(func.coalesce(func.max(Attempt.seq), 0))).scalar_one()


def find_snapshot_end(connection: Connection) -> tuple[int, frozenset[str]]:
    """Return the last sequence number, and the transactions that may still add an earlier one."""
    last_seq = find_last_seq(connection)  # first: a writer that begins later draws a higher number
    return last_seq, find_open_writers(connection)


def find_open_writers(connection: Connection) -> frozenset[str]:
    """Return the open transactions that write attempts."""
    return frozenset(connection.execute(_WRITERS).scalars())
