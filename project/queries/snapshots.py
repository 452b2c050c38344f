"""Snapshots of attempts: last sequence number, and transactions that may add lower numbers.

Transactions do not commit in the order of their sequence numbers. Each writer locks the table before it draws a number
and until its transaction ends, so pg_locks shows the open writers. Waiting with a conflicting lock would also wait for
every vacuum, and would block later writers.
"""

from sqlalchemy import Connection, func, select, text

from project.models import Attempt

_WRITERS = text("""
    select virtualtransaction from pg_locks
     where relation = 'attempts'::regclass and mode = 'RowExclusiveLock' and granted
       and database = (select oid from pg_database where datname = current_database())
""")


def find_last_seq(connection: Connection) -> int:
    """Return the highest sequence number of an attempt, or 0 if there is none."""
    return connection.execute(select(func.coalesce(func.max(Attempt.seq), 0))).scalar_one()


def find_snapshot_end(connection: Connection) -> tuple[int, frozenset[str]]:
    """Return the last sequence number, and the open transactions that may add lower numbers."""
    last_seq = find_last_seq(connection)  # first: a writer that begins later draws a higher number
    return last_seq, find_open_writers(connection)


def find_open_writers(connection: Connection) -> frozenset[str]:
    """Return the virtual IDs of the open transactions that write attempts."""
    return frozenset(connection.execute(_WRITERS).scalars())
