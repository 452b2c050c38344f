"""What `flask doctor` finds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    subject: str
    told: str
    remedy: str = ""
    """What to do; "" when all is well."""
