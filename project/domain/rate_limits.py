"""Value types of rate limiting: limits, hits, and the limit that was exceeded."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `requests` per window of `seconds`, for each key that is counted under it."""

    name: str
    requests: int
    seconds: int


class Hit(NamedTuple):
    """One use of a limit by the client `key`. With `amount` 0 it checks without using."""

    limit: RateLimit
    key: str
    amount: int = 1


class Exceeded(NamedTuple):
    """The position of the hit that exceeded its limit, and the seconds until its window ends."""

    position: int
    left_s: float


@dataclass(frozen=True, slots=True)
class UseraddLimits:
    """The configured limits of requests to /useradd."""

    client: RateLimit
    total: RateLimit
    conflicts: RateLimit

    @classmethod
    def per_minute(cls, client: int, total: int, conflicts: int) -> "UseraddLimits":
        """Return the limits for these numbers of requests per minute."""
        return cls(
            RateLimit("client", client, 60), RateLimit("everybody", total, 60), RateLimit("conflicts", conflicts, 60)
        )
