"""Results of the checks of `flask doctor`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: what was checked, what was found, and what to do."""

    subject: str
    description: str
    remedy: str = ""
    """Instruction for the operator; "" if nothing has to be done."""
