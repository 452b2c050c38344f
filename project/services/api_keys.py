"""Creates, revokes and verifies API keys."""

import logging
import time
from datetime import UTC, datetime
from uuid import UUID

from project.database import Database
from project.domain.api_keys import ApiKey, IssuedKey, hash_api_key, new_api_key
from project.domain.attempts import new_id
from project.domain.errors import RefusalError
from project.queries import api_keys as queries

log = logging.getLogger(__name__)

CACHE_S = 5.0
"""Seconds for which a process caches a valid key, and for which a revoked key may still work."""


class ApiKeys:
    """Verifies API keys. Caches only valid keys, so that strangers cannot fill the memory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._valid_until: dict[bytes, float] = {}

    def clear_cache(self) -> None:
        """Empty the cache: the next use of each key is verified in PostgreSQL."""
        self._valid_until.clear()

    def is_cached(self, key: str) -> bool:
        """Return whether the key is in the cache. Does not query PostgreSQL."""
        return hash_api_key(key) in self._valid_until

    def is_valid(self, key: str) -> bool:
        """Return whether the key is valid. Raises DatabaseUnavailableError."""
        key_hash = hash_api_key(key)
        now = time.monotonic()
        if self._valid_until.get(key_hash, now) > now:
            return True
        found = self._database.read_transaction(queries.find_key, key_hash, datetime.now(UTC).date())
        if found is None:
            self._valid_until.pop(key_hash, None)
            return False
        self._valid_until[key_hash] = now + CACHE_S
        return True


def issue(database: Database, name: str, by: UUID | None) -> IssuedKey:
    """Create an API key and return it. `by` is the administrator, None for the command line."""
    key, key_id = new_api_key(), new_id(datetime.now(UTC))
    database.write_transaction(queries.add_key, key_id, name, hash_api_key(key), by)
    _log("API key created", key_id, by)
    return IssuedKey(name=name, key=key)


def revoke(database: Database, key_id: UUID, by: UUID | None) -> str:
    """Revoke a key and return its name. Raises RefusalError `not_found`."""
    name = database.write_transaction(queries.revoke_key, key_id)
    if name is None:
        raise RefusalError("not_found")
    _log("API key revoked", key_id, by)
    return name


def find(database: Database, key_id: UUID) -> ApiKey | None:
    """Return the key with this ID, or None."""
    return database.read_transaction(queries.find_key_by_id, key_id)


def find_page(database: Database, limit: int, before: UUID | None) -> list[ApiKey]:
    """Return at most `limit` keys older than `before`, newest first, revoked ones included."""
    return database.read_transaction(queries.find_keys, limit, before)


def find_all(database: Database) -> list[ApiKey]:
    """Return all keys including revoked ones, newest first."""
    return database.read_transaction(queries.find_keys)


def _log(event: str, key_id: UUID, by: UUID | None) -> None:
    log.info(event, extra={"key_id": str(key_id), "by": "cli" if by is None else str(by)})
