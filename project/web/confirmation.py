"""Before something grave an administrator proves again, by password, to be who logged in (ASVS 5.0.0, 7.5.3)."""

import logging
import time

from flask import g, session

from project.web import limits
from project.web.tools import tools

FRESH_S = 10 * 60
"""How long a password that was entered will do: at the login, too."""

log = logging.getLogger(__name__)


def is_due() -> bool:
    """Tell whether the password has to be entered again."""
    return time.time() - int(session.get("proved", 0)) > FRESH_S


def accepts(password: str) -> bool:
    """Check the reader's own password; if it is the right one it will do for a while. Raises RateLimitedError."""
    account = g.reader.account
    guesses = limits.Guesses(str(account.id))
    guesses.check()
    if not tools().passwords.verify(password, account.password_hash):
        guesses.note()
        log.warning("confirmation refused", extra={"user_id": str(account.id)})
        return False
    session["proved"] = int(time.time())
    return True
