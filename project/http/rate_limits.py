"""The limits of this service, and the keys under which clients are counted."""

import hashlib
import ipaddress
import logging
from collections.abc import Sequence
from uuid import UUID

from project.domain.rate_limits import Hit, RateLimit
from project.http.guards import known_api_key
from project.http.request_state import current_request, request_state
from project.runtime import get_runtime
from project.services.login import canonical_login

log = logging.getLogger(__name__)

EVERYBODY = "everybody"
WRONG_PASSWORDS = RateLimit("guesses", 10, 60)
"""Wrong passwords from one address (ASVS 5.0.0, 6.3.1)."""
ACCOUNT_WRONG_PASSWORDS = RateLimit("account-guesses", 30, 3600)
"""Wrong passwords for one account from one address. Never for the account alone: strangers could lock it."""
EXPORTS = RateLimit("exports", 30, 60)
ADMIN_CHANGES = RateLimit("changes", 60, 60)
"""Changes by one administrator."""
RECORDED, ALL_RECORDED = RateLimit("recorded", 10, 60), RateLimit("all-recorded", 600, 60)
"""Rate limit refusals that become rows, per client and per process: a flood must not fill the database."""
FLOOD_LOGGED = RateLimit("flood-logged", 1, 60)


def consume_attempt() -> None:
    """Count a request to /useradd. Raises RateLimitedError after too many."""
    runtime, client = get_runtime(), client_key()
    limits = runtime.useradd_limits
    runtime.rate_limiter.consume(
        Hit(limits.conflicts, client, 0), Hit(limits.client, client), Hit(limits.total, EVERYBODY)
    )


def record_conflict() -> None:
    """Count a response that reveals what is taken, against enumeration of users (S39)."""
    get_runtime().rate_limiter.record(Hit(get_runtime().useradd_limits.conflicts, client_key()))


def consume_for_reader(limit: RateLimit) -> None:
    """Count an action of the logged-in user. Raises RateLimitedError."""
    get_runtime().rate_limiter.consume(Hit(limit, str(request_state().account.id)))


def should_record() -> bool:
    """Return whether another rate limit refusal becomes a row; log it once a minute if not."""
    limiter = get_runtime().rate_limiter
    if limiter.consume_locally(Hit(RECORDED, client_key()), Hit(ALL_RECORDED, EVERYBODY)):
        return True
    if limiter.consume_locally(Hit(FLOOD_LOGGED, EVERYBODY)):
        log.warning("rate limit refusals are no longer recorded individually")
    return False


class PasswordThrottle:
    """Throttles password guessing per account and address, without locking the account.


    A context manager around one try. The try is counted before the password is verified, so that simultaneous tries do
    not exceed the limits, and no longer counts afterwards unless record_failure() was called.
    """

    def __init__(self) -> None:
        self._address = client_address()
        self._hits: list[Hit] = []

    def __enter__(self) -> "PasswordThrottle":
        """Count the try for the address. Raises RateLimitedError."""
        self._consume(Hit(WRONG_PASSWORDS, self._address))
        return self

    def consume_accounts(self, *accounts: str) -> None:
        """Count a password attempt for the accounts, before the password is verified.

        Raises RateLimitedError if a limit is exceeded, even if the password is correct.
        """
        self._consume(*(Hit(ACCOUNT_WRONG_PASSWORDS, f"{account} {self._address}") for account in accounts))

    def consume_login(self, login: str, account_ids: Sequence[UUID]) -> None:
        """Count the try for the accounts with this login. Raises RateLimitedError.

        An account has one counter, whatever the spelling of the login. So has an unknown login, which is hashed: Redis
        must not hold logins.
        """
        canonical = canonical_login(login, get_runtime().config.phone_region).encode(errors="replace")
        self.consume_accounts(*(map(str, account_ids) if account_ids else [hashlib.sha256(canonical).hexdigest()[:32]]))

    def record_failure(self) -> None:
        """Keep the try counted: the password was wrong."""
        self._hits = []

    def __exit__(self, *error: object) -> None:
        """Take the try back unless it failed."""
        if self._hits:
            get_runtime().rate_limiter.refund(*self._hits)

    def _consume(self, *hits: Hit) -> None:
        for hit in hits:  # one by one, because a refusal leaves the earlier ones counted
            get_runtime().rate_limiter.consume(hit)
            self._hits.append(hit)


def client_key() -> str:
    """Return the key of a client: the hash of its API key, otherwise its address."""
    key = known_api_key()
    return client_address() if key is None else f"key-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def client_address() -> str:
    """Return the client's address, for IPv6 its /64 network: one server owns all of it."""
    text: str = current_request().environ.get("REMOTE_ADDR", "")
    if ":" not in text:
        return text
    try:
        address = ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError:
        return text
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))
