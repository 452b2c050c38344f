"""Creates, revokes and verifies API keys."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from project.database import Database
from project.domain.api_keys import SHOWN_PREFIX_LENGTH, ApiKey, IssuedKey, generate_api_key, hash_api_key
from project.domain.attempts import new_id
from project.domain.audit import Action, NewEntry
from project.domain.errors import RefusalError
from project.queries import api_keys as queries

log = logging.getLogger(__name__)

CACHE_S = 5.0
"""Seconds for which a process caches a valid key, and for which a revoked key may still work."""


class ApiKeys:
    """Verifies API keys. Caches only valid keys, so that invalid keys cannot exhaust memory."""

    def __init__(self, database: Database, record_use: Callable[[UUID], None] = lambda _: None) -> None:
        self._database = database
        self._record_use = record_use
        self._cache: dict[bytes, tuple[float, UUID]] = {}
        """Hash of a valid key -> time by time.monotonic() from which it has to be verified again, and ID of the key."""

    def clear_cache(self) -> None:
        """Empty the cache, so that the next use of each key is verified in PostgreSQL."""
        self._cache.clear()

    def find_cached_id(self, key: str) -> UUID | None:
        """Return the ID of a cached key, even if it has to be verified again, or None.

        Does not query PostgreSQL.
        """
        known = self._cache.get(hash_api_key(key))
        return known[1] if known else None

    def is_valid(self, key: str) -> bool:
        """Return whether the key is valid; record its use. Raises the errors of read_transaction()."""
        key_hash = hash_api_key(key)
        now = time.monotonic()
        valid_until, key_id = self._cache.get(key_hash) or (now, None)
        if valid_until <= now or key_id is None:
            key_id = self._database.read_transaction(queries.find_valid_key_id, key_hash)
            if key_id is None:
                self._cache.pop(key_hash, None)
                return False
            self._cache[key_hash] = now + CACHE_S, key_id
        self._record_use(key_id)
        return True


def issue_key(database: Database, name: str, by: UUID | None, key: str | None = None) -> IssuedKey:
    """Create an API key and return it.

    `by` is the ID of the administrator, None for the command line. By default the key is random. If the given `key`
    exists already, nothing is created.
    """
    key, key_id = key or generate_api_key(), new_id(datetime.now(UTC))
    row = {
        "id": key_id,
        "name": name,
        "key_hash": hash_api_key(key),
        "created_by": by,
        "prefix": key[:SHOWN_PREFIX_LENGTH],
    }
    if database.write_transaction(queries.add_key, row, NewEntry.by_user(Action.KEY_CREATED, by, key_id, name)):
        _log("API key created", key_id, by)
    return IssuedKey(name=name, key=key)


def is_valid_key(database: Database, key: str) -> bool:
    """Return whether a key exists and is not revoked."""
    return database.read_transaction(queries.find_valid_key_id, hash_api_key(key)) is not None


def revoke_key(database: Database, key_id: UUID, by: UUID | None) -> str:
    """Revoke a key and return its name. Raises RefusalError `not_found`."""
    name = database.write_transaction(queries.revoke_key, key_id, NewEntry.by_user(Action.KEY_REVOKED, by, key_id))
    if name is None:
        raise RefusalError("not_found")
    _log("API key revoked", key_id, by)
    return name


def find_key(database: Database, key_id: UUID) -> ApiKey | None:
    """Return the key with this ID, or None."""
    return database.read_transaction(queries.find_key_by_id, key_id)


def find_keys(database: Database, limit: int | None = None, before: UUID | None = None) -> list[ApiKey]:
    """Return at most `limit` keys older than `before`, by default all keys, newest first.

    The result includes revoked keys.
    """
    return database.read_transaction(queries.find_keys, limit, before)


def _log(event: str, key_id: UUID, by: UUID | None) -> None:
    log.info(event, extra={"key_id": str(key_id), "by": "cli" if by is None else str(by)})
