"""Masks attempts for readers who may not see personal data (docs/adr/0032)."""

from typing import TypeVar

from project.domain.attempts import AttemptRow
from project.http.request_state import request_state

A = TypeVar("A", bound=AttemptRow)


def mask_for_reader(attempt: A) -> A:
    """Return the attempt as the user of this request may see it: masked or unmasked."""
    return attempt if request_state().sees_unmasked(attempt.id) else attempt.masked()
