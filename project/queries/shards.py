"""Spreading the tables over the machines of a Citus cluster: which go where, and why (docs/adr/0024)."""

from collections.abc import Iterator

from sqlalchemy import Connection, text

SPREAD = {"attempts": "id", "users": "id", "identifiers": "value"}
"""Tables that grow without end, each with the column that says where a row lies. A user lies beside its attempt."""
_STEPS = (
    # A table of one machine may not point to a spread one: for the time in between, nobody points.
    "alter table users drop constraint users_id_attempt_status_fkey",
    # Citus guards uniqueness within one machine only. PostgreSQL draws `seq`, so it is unique without a guard.
    "alter table attempts drop constraint attempts_seq_key",
    "create index attempts_seq_idx on attempts (seq)",
    "select create_distributed_table('attempts', 'id', colocate_with => 'none')",
    "select create_distributed_table('users', 'id', colocate_with => 'attempts')",
    "alter table users add constraint users_id_attempt_status_fkey"
    " foreign key (id, attempt_status) references attempts (id, status)",
    "select create_distributed_table('identifiers', 'value', colocate_with => 'none')",
)


def has_citus(connection: Connection) -> bool:
    """Tell whether this database has the extension."""
    return bool(connection.execute(text("select count(*) from pg_extension where extname = 'citus'")).scalar())


def find_spread(connection: Connection) -> set[str]:
    """Return the names of the tables that are spread already."""
    return set(connection.execute(text("select table_name::text from citus_tables")).scalars())


def spread(connection: Connection) -> Iterator[str]:
    """Spread the tables in the transaction of the caller; yield each step before it is taken.

    It takes as long as copying takes, and nobody writes meanwhile.
    """
    connection.execute(text("set local statement_timeout = 0"))
    for step in _STEPS:
        yield step
        connection.execute(text(step))
