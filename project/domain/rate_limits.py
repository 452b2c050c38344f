"""Value types of rate limiting: limits, hits, and the limit that was exceeded."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A maximum of `requests` per window of `seconds` for each key, such as a client address."""

    name: str
    requests: int
    seconds: int


class Hit(NamedTuple):
    """`amount` requests to count for `key`. An amount of 0 only checks the limit."""

    limit: RateLimit
    key: str
    amount: int = 1


class ExceededLimit(NamedTuple):
    """An exceeded limit: the index of the hit, and the seconds until the window ends."""

    position: int
    left_s: float


@dataclass(frozen=True, slots=True)
class UseraddLimits:
    """The configured limits of requests to /useradd."""

    client: RateLimit
    """Requests of a client."""
    total: RateLimit
    """Requests of all clients together."""
    conflicts: RateLimit
    """Responses 409 to a client, which reveal taken identifiers."""

    @classmethod
    def per_minute(cls, client: int, total: int, conflicts: int) -> "UseraddLimits":
        """Return the limits with these maximum numbers of requests per minute."""
        return cls(
            RateLimit("client", client, 60), RateLimit("everybody", total, 60), RateLimit("conflicts", conflicts, 60)
        )
