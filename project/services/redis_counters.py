"""Rate limit counters in Redis or Valkey. Imported only where the settings name one."""

from collections.abc import Sequence
from typing import cast

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from project.domain.rate_limits import Exceeded, Hit
from project.services.rate_limiting import CountersUnavailableError

TIMEOUT_S = 0.1
"""Timeout of connecting and of a response: a request must not wait for Redis."""

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
"""LocalCounters.consume() in one round trip. Redis runs scripts atomically: no window is ever without an end."""


class RedisCounters:
    """Counters in Redis or Valkey."""

    def __init__(self, uri: str) -> None:
        redis = Redis.from_url(
            uri.replace("valkey", "redis", 1),  # Valkey speaks the same protocol
            socket_connect_timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # the default retries for seconds
        )
        self._script = redis.register_script(_CONSUME)

    def consume(self, hits: Sequence[Hit]) -> Exceeded | None:
        """Count hits as LocalCounters.consume() does. Raises CountersUnavailableError."""
        keys = [f"useradd:{limit.name}:{key}" for limit, key, _ in hits]
        arguments = [part for limit, _, amount in hits for part in (limit.requests, limit.seconds * 1000, amount)]
        try:
            index, left_ms = cast(list[int], self._script(keys, arguments))
        except RedisError as error:
            raise CountersUnavailableError(type(error).__name__) from error
        return Exceeded(index - 1, left_ms / 1000) if index else None
