"""Re-authentication before sensitive actions of administrators (ASVS 5.0.0, 7.5.3)."""

import logging
import time

from flask import session

from project.http import rate_limits
from project.http.request_state import request_state
from project.runtime import get_runtime

PASSWORD_VALID_S = 10 * 60
"""Seconds after a login or re-authentication in which sensitive actions need no password."""

log = logging.getLogger(__name__)


def is_required() -> bool:
    """Return whether the user last entered the password more than PASSWORD_VALID_S ago."""
    return time.time() - int(session.get("proved", 0)) > PASSWORD_VALID_S


def verify_password(password: str) -> bool:
    """Return whether `password` is the user's; if so, store the time in the session.

    Raises RateLimitedError.
    """
    account = request_state().account
    with rate_limits.PasswordThrottle() as throttle:
        throttle.consume_accounts(str(account.id))
        if not get_runtime().passwords.verify(password, account.password_hash):
            throttle.record_failure()
            log.warning("re-authentication failed", extra={"user_id": str(account.id)})
            return False
    session["proved"] = int(time.time())
    return True
