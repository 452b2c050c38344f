"""Rate limit counters in Redis or Valkey. Not imported for `memory://`."""

import re
import socket
from collections.abc import Sequence
from typing import cast

from redis import Connection, ConnectionPool, Redis, RedisError, SSLConnection
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

from project.database.name_lookup import NameLookup
from project.domain.rate_limits import ExceededLimit, Hit
from project.services.rate_limiting import CountersUnavailableError

TIMEOUT_S = 0.1
"""Timeout in seconds for connecting and for a response: requests must not wait long for Redis."""

_CONSUME = """
for index, key in ipairs(KEYS) do
    local requests, milliseconds, amount = tonumber(ARGV[3 * index - 2]), ARGV[3 * index - 1], ARGV[3 * index]
    if tonumber(redis.call('get', key) or 0) >= requests then
        return {index, redis.call('pttl', key)}
    end
    if amount ~= '0' and redis.call('incrby', key, amount) == tonumber(amount) then
        redis.call('pexpire', key, milliseconds)
    end
end
return {0, 0}
"""
"""Lua script that counts hits as LocalCounters.consume() does, in one round trip. Returns the number of the hit that
exceeds its limit, from 1, and the milliseconds left in its window; zeros if no limit is exceeded. Redis runs scripts
atomically, so every counter gets its expiry."""

_REFUND = """
for index, key in ipairs(KEYS) do
    if tonumber(redis.call('get', key) or 0) > tonumber(ARGV[index]) then
        redis.call('decrby', key, ARGV[index])
    else
        redis.call('del', key)
    end
end
"""
"""Lua script that subtracts hits as LocalCounters.refund() does, in one round trip."""

_names = NameLookup()


class _ResolvingConnection(Connection):
    """A TCP connection that resolves its host name within TIMEOUT_S."""

    def _connect(self) -> socket.socket:
        name, error = self.host, OSError("the name has no address")
        try:
            for self.host in _names.resolve(name, TIMEOUT_S):
                try:
                    connected: socket.socket = super()._connect()  # type: ignore[no-untyped-call]
                except OSError as failure:
                    error = failure
                else:
                    return connected
        finally:
            self.host = name  # TLS compares the certificate with the name
        raise error


class _TLSConnection(SSLConnection, _ResolvingConnection):
    """A TLS connection that resolves its host name within TIMEOUT_S, by inheritance."""


_CONNECTIONS = {Connection: _ResolvingConnection, SSLConnection: _TLSConnection}


class RedisCounters:
    """Rate limit counters in Redis or Valkey, which all processes share."""

    def __init__(self, uri: str) -> None:
        pool = ConnectionPool.from_url(
            re.sub("^valkey", "redis", uri),  # Valkey speaks the same protocol
            socket_connect_timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # the default retries for seconds
        )
        pool.connection_class = _CONNECTIONS.get(pool.connection_class, pool.connection_class)
        redis = Redis(connection_pool=pool)
        self._consume, self._refund = redis.register_script(_CONSUME), redis.register_script(_REFUND)

    def consume(self, hits: Sequence[Hit]) -> ExceededLimit | None:
        """Count hits as LocalCounters.consume() does. Raises CountersUnavailableError."""
        arguments = [part for limit, _, amount in hits for part in (limit.requests, limit.seconds * 1000, amount)]
        index, left_ms = cast(list[int], _run(self._consume, hits, arguments))
        return ExceededLimit(index - 1, left_ms / 1000) if index else None

    def refund(self, hits: Sequence[Hit]) -> None:
        """Subtract hits as LocalCounters.refund() does. Raises CountersUnavailableError."""
        _run(self._refund, hits, [hit.amount for hit in hits])


def _run(script: Script, hits: Sequence[Hit], arguments: list[int]) -> object:
    try:
        return script([f"useradd:{limit.name}:{key}" for limit, key, _ in hits], arguments)
    except RedisError as error:
        raise CountersUnavailableError(type(error).__name__) from error
