"""What the reader of this request may see of an attempt (docs/adr/0032)."""

from typing import TypeVar

from project.domain.attempts import AttemptRow
from project.http.request_state import request_state

A = TypeVar("A", bound=AttemptRow)


def as_visible(attempt: A) -> A:
    """Return the attempt in full for auditors, administrators and its user, else masked."""
    return attempt if request_state().sees_in_full(attempt.id) else attempt.masked()
