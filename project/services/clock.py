"""Measures the duration of attempts."""

import time

from project.domain.attempts import NewAttempt


def elapsed_ms(attempt: NewAttempt) -> int:
    """Return the milliseconds since the attempt began, by the monotonic clock."""
    return round((time.monotonic() - attempt.started) * 1000)
