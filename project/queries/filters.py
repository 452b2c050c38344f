"""The reader's choice, told in SQL once for every question about attempts."""

import re
from uuid import UUID

from sqlalchemy import ColumnElement, and_, false, func, or_

from project.domain.attempts import AttemptFilter, Outcome, first_id
from project.domain.contacts import mask_email, mask_phone
from project.models import Attempt

_STATUSES: dict[Outcome, ColumnElement[bool]] = {
    Outcome.CREATED: Attempt.status == 201,
    Outcome.UNCHANGED: and_(Attempt.status.between(200, 299), Attempt.status != 201),
    Outcome.REJECTED: Attempt.status.between(400, 499),
    Outcome.FAILED: or_(Attempt.status == 0, Attempt.status >= 500),
}


def conditions(chosen: AttemptFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of `chosen`. A period is a range of ids, which the primary key answers."""
    wanted: list[ColumnElement[bool]] = []
    if chosen.since:
        wanted.append(Attempt.id >= first_id(chosen.since))
    if chosen.until:
        wanted.append(Attempt.id < first_id(chosen.until))
    if chosen.newest is not None:
        wanted.append(Attempt.seq <= chosen.newest)
    if chosen.outcomes:
        wanted.append(or_(false(), *(_STATUSES[outcome] for outcome in sorted(chosen.outcomes))))
    if chosen.codes:
        wanted.append(Attempt.code.in_(sorted(chosen.codes)))
    if chosen.statuses:
        wanted.append(Attempt.status.in_(sorted(chosen.statuses)))
    if chosen.text:
        wanted.append(_matches(chosen.text.strip()))
    return wanted


def _matches(text: str) -> ColumnElement[bool]:
    """What a person types into one box: part of a username (`=` and all of it), a contact, a number of a request."""
    if text.startswith("="):
        return Attempt.username == text[1:]  # its index answers, whatever the size of the table
    ways = [
        Attempt.username.icontains(text, autoescape=True),
        Attempt.client_request_id == text,
    ]
    if attempt_id := _uuid(text):
        ways.append(Attempt.id == attempt_id)
    if "@" in text:
        ways.append(func.lower(Attempt.email_masked) == mask_email(text).lower())
    if sum(character.isdigit() for character in text) >= 7:
        ways.append(_digits_alike(text))
    return or_(*ways)


def _digits_alike(text: str) -> ColumnElement[bool]:
    """Compare only the digits that a mask leaves, so that any spelling of a number finds it."""
    digits = re.sub(r"\D", "", text)
    spellings = {digits}
    if len(digits) == 11 and digits[0] in "78":  # Russia's trunk prefix 8 stands for +7
        spellings = {f"{first}{digits[1:]}" for first in "78"}
    shown = [re.sub(r"[^\d•]", "", mask_phone("+" + spelling)) for spelling in sorted(spellings)]
    return func.regexp_replace(Attempt.phone_masked, r"[^\d•]", "", "g").in_(shown)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
