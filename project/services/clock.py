"""How long an attempt has taken so far."""

import time

from project.domain.attempts import NewAttempt


def elapsed_ms(attempt: NewAttempt) -> int:
    """Return whole milliseconds since the request came in, by a clock that does not jump."""
    return round((time.monotonic() - attempt.started) * 1000)
