"""Counts that several processes share, in a Redis or Valkey. Imported only where the settings name one."""

from collections.abc import Sequence
from typing import cast

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from project.services.limits import CountsAwayError, Refused, Wish

REDIS_S = 0.1
"""Seconds that Redis may take to connect, and to answer: a request must not wait for it."""

_TAKE = """
for place, key in ipairs(KEYS) do
    local most, milliseconds, amount = tonumber(ARGV[3 * place - 2]), ARGV[3 * place - 1], ARGV[3 * place]
    if tonumber(redis.call('get', key) or 0) >= most then
        return {place, redis.call('pttl', key)}
    end
    if amount ~= '0' and redis.call('incrby', key, amount) == tonumber(amount) then
        redis.call('pexpire', key, milliseconds)
    end
end
return {0, 0}
"""
"""What OwnCounts.take() does, in one round trip. A script is not interrupted: no window is ever without an end."""


class SharedCounts:
    """Counts in Redis or Valkey."""

    def __init__(self, address: str) -> None:
        redis = Redis.from_url(
            address.replace("valkey", "redis", 1),  # which speaks the same
            socket_connect_timeout=REDIS_S,
            socket_timeout=REDIS_S,
            retry=Retry(NoBackoff(), 0),  # by default it tries again, for seconds
        )
        self._script = redis.register_script(_TAKE)

    def take(self, wishes: Sequence[Wish]) -> Refused | None:
        """Do what OwnCounts.take() does. Raises CountsAwayError."""
        keys = [f"useradd:{rule.name}:{who}" for rule, who, _ in wishes]
        arguments = [part for rule, _, amount in wishes for part in (rule.most, rule.seconds * 1000, amount)]
        try:
            place, left_ms = cast(list[int], self._script(keys, arguments))
        except RedisError as error:
            raise CountsAwayError(type(error).__name__) from error
        return Refused(place - 1, left_ms / 1000) if place else None
