"""The reader's choice, told in SQL once for every question about attempts."""

import re
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, SQLColumnExpression, and_, false, func, or_
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from project.domain.attempts import CREATED, AttemptFilter, Outcome, first_id
from project.domain.contacts import mask_email, mask_phone
from project.models import Attempt

Columns = ReadOnlyColumnCollection[str, Any]
_ATTEMPT: Columns = Attempt.__table__.columns


def conditions(chosen: AttemptFilter) -> list[ColumnElement[bool]]:
    """Return all conditions of `chosen`."""
    closed = [] if chosen.newest is None else [Attempt.seq <= chosen.newest]
    return [*period(chosen), *closed, *kinds(chosen, Attempt.status, Attempt.code), *matches(chosen, _ATTEMPT)]


def period(chosen: AttemptFilter) -> list[ColumnElement[bool]]:
    """Return the conditions on the time. A period is a range of ids, which the primary key answers."""
    wanted: list[ColumnElement[bool]] = []
    if chosen.since:
        wanted.append(Attempt.id >= first_id(chosen.since))
    if chosen.until:
        wanted.append(Attempt.id < first_id(chosen.until))
    return wanted


def kinds(
    chosen: AttemptFilter, status: SQLColumnExpression[int], code: SQLColumnExpression[str]
) -> list[ColumnElement[bool]]:
    """Return the conditions on outcome, reason and status, told of these columns."""
    wanted: list[ColumnElement[bool]] = []
    if chosen.outcomes:
        wanted.append(or_(false(), *(_has_outcome(outcome, status) for outcome in sorted(chosen.outcomes))))
    if chosen.codes:
        wanted.append(code.in_(sorted(chosen.codes)))
    if chosen.statuses:
        wanted.append(status.in_(sorted(chosen.statuses)))
    if (chosen.codes and CREATED not in chosen.codes) or (chosen.statuses and 201 not in chosen.statuses):
        wanted.append(status != 201)  # what the indexes of rare reasons and statuses leave out
    return wanted


def matches(chosen: AttemptFilter, columns: Columns) -> list[ColumnElement[bool]]:
    """Return the condition on the text: what a person types into one box.

    It is part of a username (`=` and all of it), a contact, or a number of a request.
    """
    text = chosen.text.strip()
    if not text:
        return []
    if text.startswith("="):
        return [columns.username == text[1:]]  # its index answers, whatever the size of the table
    ways = [
        columns.username.icontains(text, autoescape=True),
        columns.client_request_id == text,
    ]
    if attempt_id := _uuid(text):
        ways.append(columns.id == attempt_id)
    if "@" in text:
        ways.append(func.lower(columns.email_masked) == mask_email(text).lower())
    if sum(character.isdigit() for character in text) >= 7:
        ways.append(_digits_alike(text, columns.phone_masked))
    return [or_(*ways)]


def _has_outcome(outcome: Outcome, status: SQLColumnExpression[int]) -> ColumnElement[bool]:
    match outcome:
        case Outcome.CREATED:
            return status == 201
        case Outcome.UNCHANGED:
            return and_(status.between(200, 299), status != 201)
        case Outcome.REJECTED:
            return status.between(400, 499)
        case Outcome.FAILED:
            return or_(status == 0, status >= 500)


def _digits_alike(text: str, column: SQLColumnExpression[str]) -> ColumnElement[bool]:
    """Compare only the digits that a mask leaves, so that any spelling of a number finds it."""
    digits = re.sub(r"\D", "", text)
    spellings = {digits}
    if len(digits) == 11 and digits[0] in "78":  # Russia's trunk prefix 8 stands for +7
        spellings = {f"{first}{digits[1:]}" for first in "78"}
    shown = [re.sub(r"[^\d•]", "", mask_phone("+" + spelling)) for spelling in sorted(spellings)]
    return func.regexp_replace(column, r"[^\d•]", "", "g").in_(shown)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
