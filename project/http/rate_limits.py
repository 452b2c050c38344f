"""The rate limits of this service, and the keys that identify clients."""

import hashlib
import ipaddress
import logging

from project.domain.rate_limits import Hit, RateLimit
from project.http.guards import known_api_key
from project.http.request_state import current_request, request_state
from project.runtime import get_runtime
from project.services.login import identifiers

log = logging.getLogger(__name__)

EVERYBODY = "everybody"
WRONG_PASSWORDS = RateLimit("guesses", 10, 60)
"""Wrong passwords from one address (ASVS 5.0.0, 6.3.1)."""
ACCOUNT_WRONG_PASSWORDS = RateLimit("account-guesses", 30, 3600)
"""Wrong passwords for one login from one address. Never for the login alone: strangers could lock it."""
EXPORTS = RateLimit("exports", 30, 60)
ADMIN_CHANGES = RateLimit("changes", 60, 60)
"""Changes by one administrator."""
RECORDED, ALL_RECORDED = RateLimit("recorded", 10, 60), RateLimit("all-recorded", 600, 60)
"""Refused requests that are recorded, per client and per process: a flood must not fill the database."""
FLOOD_LOGGED = RateLimit("flood-logged", 1, 60)
HOST_LOGGED, ALL_HOSTS_LOGGED = RateLimit("host-logged", 1, 60), RateLimit("all-hosts-logged", 10, 60)
"""Log lines about refused hosts, per host and in total: a scan must not hide the one that is missing."""


def consume_attempt() -> None:
    """Count a request to /useradd. Raises RateLimitedError after too many."""
    runtime, client = get_runtime(), client_key()
    limits = runtime.useradd_limits
    runtime.rate_limiter.consume(
        Hit(limits.conflicts, client, 0), Hit(limits.client, client), Hit(limits.total, EVERYBODY)
    )


def consume_users(number: int) -> None:
    """Count users of a bulk request. Raises RateLimitedError if a limit was reached before."""
    runtime, client = get_runtime(), client_key()
    limits = runtime.useradd_limits
    runtime.rate_limiter.consume(
        Hit(limits.conflicts, client, 0), Hit(limits.client, client, number), Hit(limits.total, EVERYBODY, number)
    )


def refund_users(number: int) -> None:
    """Take back users of consume_users(): a repeated request gets further than the first."""
    if number:
        limits = get_runtime().useradd_limits
        get_runtime().rate_limiter.refund(
            Hit(limits.client, client_key(), number), Hit(limits.total, EVERYBODY, number)
        )


def record_conflicts(number: int) -> None:
    """Count conflicts of a bulk request like record_conflict()."""
    if number:
        get_runtime().rate_limiter.record(Hit(get_runtime().useradd_limits.conflicts, client_key(), number))


def record_conflict() -> None:
    """Count a response that reveals taken identifiers, to limit user enumeration (S39)."""
    get_runtime().rate_limiter.record(Hit(get_runtime().useradd_limits.conflicts, client_key()))


def consume_for_reader(limit: RateLimit) -> None:
    """Count an action of the logged-in user or the API key. Raises RateLimitedError."""
    reader = request_state().reader
    get_runtime().rate_limiter.consume(Hit(limit, client_key() if reader is None else str(reader.id)))


def should_record() -> bool:
    """Return whether to record one more refused request; if not, warn once a minute."""
    limiter = get_runtime().rate_limiter
    if limiter.consume_locally(Hit(RECORDED, client_key()), Hit(ALL_RECORDED, EVERYBODY)):
        return True
    if limiter.consume_locally(Hit(FLOOD_LOGGED, EVERYBODY)):
        log.warning("rate limit refusals are no longer recorded individually")
    return False


def should_log_host(host: str) -> bool:
    """Return whether the log gets another line about a refused host."""
    return get_runtime().rate_limiter.consume_locally(Hit(HOST_LOGGED, host), Hit(ALL_HOSTS_LOGGED, EVERYBODY))


class PasswordThrottle:
    """Throttles password guessing per login and address, without locking the account.

    Use it as a context manager around one password check. The check is counted before the password is verified, so that
    concurrent checks cannot exceed the limits. On exit the count is taken back unless record_failure() was called.
    """

    def __init__(self) -> None:
        self._address = client_address()
        self._hits: list[Hit] = []

    def __enter__(self) -> "PasswordThrottle":
        """Count the check for the address. Raises RateLimitedError."""
        self._consume(Hit(WRONG_PASSWORDS, self._address))
        return self

    def consume_accounts(self, *accounts: str) -> None:
        """Count the check for each account, before the password is verified.

        Raises RateLimitedError if a limit is exceeded, even if the password is correct.
        """
        self._consume(*(Hit(ACCOUNT_WRONG_PASSWORDS, f"{account} {self._address}") for account in accounts))

    def consume_login(self, login: str) -> None:
        """Count the check for a login in any spelling. Raises RateLimitedError.

        It is counted under a hash, because Redis must not contain logins. Known and unknown logins are counted alike,
        and each login of an account by itself: otherwise a refusal would reveal whose phone number it is.
        """
        canonical = identifiers(login, get_runtime().config.phone_region).canonical.encode(errors="replace")
        self.consume_accounts(hashlib.sha256(canonical).hexdigest()[:32])

    def record_failure(self) -> None:
        """Keep the check counted: the password was wrong."""
        self._hits = []

    def __exit__(self, *error: object) -> None:
        """Take the count back unless the password was wrong."""
        if self._hits:
            get_runtime().rate_limiter.refund(*self._hits)

    def _consume(self, *hits: Hit) -> None:
        for hit in hits:  # one call each: a refusal must not take back the hits before it
            get_runtime().rate_limiter.consume(hit)
            self._hits.append(hit)


def client_key() -> str:
    """Return the key of a client: the hash of its API key, otherwise its address."""
    key = known_api_key()
    return client_address() if key is None else f"key-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def client_address() -> str:
    """Return the client's IPv4 address, or its IPv6 /64 network.

    One client may use every address of such a network.
    """
    text: str = current_request().environ.get("REMOTE_ADDR", "")
    if ":" not in text:
        return text
    try:
        address = ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError:
        return text
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))
