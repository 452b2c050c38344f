"""Applies rate limits to clients, users and logins."""

import hashlib
import ipaddress
import logging

from project.domain.rate_limits import Hit, RateLimit
from project.http.guards import cached_api_key
from project.http.request_state import current_request, request_state
from project.runtime import get_runtime
from project.services.login import parse_identifiers

log = logging.getLogger(__name__)

EVERYBODY = "everybody"
"""Key under which requests of all clients are counted together."""
WRONG_PASSWORD_LIMIT = RateLimit("guesses", 10, 60)
"""Limit of wrong passwords from one address (ASVS 5.0.0, 6.3.1)."""
ACCOUNT_WRONG_PASSWORD_LIMIT = RateLimit("account-guesses", 30, 3600)
"""Limit of wrong passwords for one login from one address. With one count for all addresses, strangers could lock
accounts."""
EXPORT_LIMIT = RateLimit("exports", 30, 60)
ADMIN_CHANGE_LIMIT = RateLimit("changes", 60, 60)
"""Limit of changes by one administrator."""
CLIENT_RECORD_LIMIT, TOTAL_RECORD_LIMIT = RateLimit("recorded", 10, 60), RateLimit("all-recorded", 600, 60)
"""Limits of rate-limited attempts that are recorded, per client and in all: a flood must not fill the database."""
FLOOD_LOG_LIMIT = RateLimit("flood-logged", 1, 60)
HOST_LOG_LIMIT, TOTAL_HOST_LOG_LIMIT = RateLimit("host-logged", 1, 60), RateLimit("all-hosts-logged", 10, 60)
"""Limits of log lines about refused hosts, per host and in all. A frequent host must not hide other hosts in the
log."""


def consume_attempts(number: int) -> None:
    """Count `number` attempts: requests or lines of a bulk request.

    Raises RateLimitedError if a limit is reached, including that of conflicts; then counts nothing for later limits.
    """
    runtime, client = get_runtime(), rate_limit_key()
    limits = runtime.useradd_limits
    runtime.rate_limiter.consume(
        Hit(limits.conflicts, client, amount=0),
        Hit(limits.client, client, number),
        Hit(limits.total, EVERYBODY, number),
    )


def refund_attempts(number: int) -> None:
    """Stop counting `number` attempts for the rate limits.

    Replayed lines do not count, so that a repeated bulk request gets further than the first one.
    """
    if number:
        limits = get_runtime().useradd_limits
        get_runtime().rate_limiter.refund(
            Hit(limits.client, rate_limit_key(), number), Hit(limits.total, EVERYBODY, number)
        )


def record_conflicts(number: int) -> None:
    """Count `number` responses or lines that reveal taken identifiers (user enumeration)."""
    if number:
        get_runtime().rate_limiter.record(Hit(get_runtime().useradd_limits.conflicts, rate_limit_key(), number))


def consume_for_reader(limit: RateLimit) -> None:
    """Count an action of the user or API key for `limit`. Raises RateLimitedError."""
    reader = request_state().reader
    get_runtime().rate_limiter.consume(Hit(limit, rate_limit_key() if reader is None else str(reader.id)))


def should_record_refusal() -> bool:
    """Count a rate-limited attempt; return whether to record it.

    If not, logs a warning, at most once a minute.
    """
    limiter = get_runtime().rate_limiter
    if limiter.consume_locally(Hit(CLIENT_RECORD_LIMIT, rate_limit_key()), Hit(TOTAL_RECORD_LIMIT, EVERYBODY)):
        return True
    if limiter.consume_locally(Hit(FLOOD_LOG_LIMIT, EVERYBODY)):
        log.warning("rate limit refusals are no longer recorded individually")
    return False


def should_log_host(host: str) -> bool:
    """Count a refused request with `host`; return whether to log it."""
    return get_runtime().rate_limiter.consume_locally(Hit(HOST_LOG_LIMIT, host), Hit(TOTAL_HOST_LOG_LIMIT, EVERYBODY))


class PasswordThrottle:
    """A context manager for a password check that throttles guessing without locking accounts.

    The check is counted before the password is verified, so that concurrent checks cannot exceed the limits. On exit,
    it no longer counts unless record_failure() was called.
    """

    def __init__(self) -> None:
        self._address = client_address()
        self._hits: list[Hit] = []

    def __enter__(self) -> "PasswordThrottle":
        """Count the check for the client's address. Raises RateLimitedError above the limit."""
        self._consume(Hit(WRONG_PASSWORD_LIMIT, self._address))
        return self

    def consume_accounts(self, *accounts: str) -> None:
        """Count the check for each of `accounts`, which are account IDs or hashes of logins.

        Raises RateLimitedError if a limit is exceeded, even if the password is correct.
        """
        self._consume(*(Hit(ACCOUNT_WRONG_PASSWORD_LIMIT, f"{account} {self._address}") for account in accounts))

    def consume_login(self, login: str) -> None:
        """Count the check for a login, whatever its spelling. Raises RateLimitedError.

        The key is a hash, because Redis must not contain logins. Unknown logins count, too, and the username and phone
        of an account count separately: otherwise a refusal would reveal which logins exist or belong together.
        """
        canonical = parse_identifiers(login, get_runtime().config.phone_region).canonical.encode(errors="replace")
        self.consume_accounts(hashlib.sha256(canonical).hexdigest()[:32])

    def record_failure(self) -> None:
        """Record that the password was wrong, so that the check stays counted."""
        self._hits = []

    def __exit__(self, *error: object) -> None:
        """Stop counting the check unless record_failure() was called."""
        if self._hits:
            get_runtime().rate_limiter.refund(*self._hits)

    def _consume(self, *hits: Hit) -> None:
        for hit in hits:  # one by one: if a hit is refused, __exit__() must refund only the hits before it
            get_runtime().rate_limiter.consume(hit)
            self._hits.append(hit)


def rate_limit_key() -> str:
    """Return the client's key for rate limits: a hash of its cached API key, or its address."""
    key = cached_api_key()
    return client_address() if key is None else f"key-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def client_address() -> str:
    """Return the client's IPv4 address, or the /64 network of its IPv6 address.

    A client may use all addresses of its /64 network. A text that is no IP address is returned unchanged.
    """
    text: str = current_request().environ.get("REMOTE_ADDR", "")
    if ":" not in text:
        return text
    try:
        address = ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError:
        return text
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))
