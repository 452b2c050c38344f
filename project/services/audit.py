"""Writes, reads and prunes the audit log.

Changes of users and keys insert their entry in the same transaction. Entries about downloads are written by Activity.
"""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from project.database import Database
from project.domain.audit import Entry, NewEntry
from project.queries import audit as queries
from project.services.attempts import delete_batch

BLOCK_ENTRIES, PRUNE_BATCH = 500, 500
"""Maximum numbers of entries read by one query, and deleted in one transaction."""


def record_entry(database: Database, entry: NewEntry) -> None:
    """Write an audit entry at once. Raises the errors of Database.write_transaction()."""
    database.write_transaction(queries.add_entry, entry)


def find_entries(database: Database, limit: int, before: UUID | None, about: UUID | None = None) -> list[Entry]:
    """Return at most `limit` entries older than `before`, newest first.

    `about` is the ID of a user or key that acted or was changed; None means all entries.
    """
    return database.read_transaction(queries.find_entries, limit, before, about)


def iter_entries(database: Database, about: UUID | None = None) -> Iterator[list[Entry]]:
    """Yield the entries about a user or key, or all entries, in blocks, newest first."""
    before = None
    while block := find_entries(database, BLOCK_ENTRIES, before, about):
        yield block
        before = block[-1].id


def prune_batch(database: Database, max_age: timedelta) -> bool:
    """Delete a batch of entries older than `max_age`; return whether any was deleted.

    Deletes nothing if the clocks of PostgreSQL and this machine differ. Raises DatabaseUnavailableError.
    """
    deleted = delete_batch(database, queries.prune_entries, max_age, PRUNE_BATCH)
    return deleted is not None and deleted.rows > 0
