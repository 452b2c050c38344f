"""Translates an AttemptFilter into SQL conditions, for all queries of attempts."""

import re
from collections.abc import Iterator

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    SQLColumnExpression,
    and_,
    false,
    func,
    literal_column,
    not_,
    or_,
    text,
)

from project.database import remaining_seconds
from project.domain.attempts import AttemptFilter, Outcome, lowest_id, parse_id
from project.domain.masking import mask, mask_email, mask_request_id
from project.domain.search import spelling_regex, split_words
from project.domain.usernames import fold_username
from project.models import Attempt

MAY_HAVE_CONTACT = (
    r"[^\u0001-\u003f\u0041-\u00b1\u00b4-\u00b8\u00ba-\u065f\u2010-\u2027\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]"
    r"|[0-9](?:[^0-9]*[0-9]){6}"
)
"""Regular expression for PostgreSQL. Matches every text that mask() changes, and some others: texts with @, seven ASCII
digits, or characters of scripts that may have their own digits."""
MIN_LAST_DIGITS = 4
"""Minimum number of digits of a search for a phone number. Masks show only a few digits, so a search with fewer digits
would find too many numbers."""
_PHONE = re.compile(r"(?:tel:)?[\s+().•\-0-9]+", re.IGNORECASE | re.ASCII)
_NEEDS_FOLDING = literal_column("""attempts.username collate "C" ~ '[^a-z0-9@.+_-]'""", Boolean)
"""Predicate of the partial index of folded logins. PostgreSQL uses the index only if a query repeats it literally."""
SEARCH_TIMEOUT_S = 1.0
"""Time limit of a text search in seconds. A page runs two or three searches."""
RENDER_S = 0.3
"""Seconds of a request's deadline that are reserved for rendering the page."""


def filter_conditions(attempt_filter: AttemptFilter) -> list[ColumnElement[bool]]:
    """Return the SQL conditions for all parts of a filter."""
    return [
        *period_conditions(attempt_filter),
        *outcome_conditions(attempt_filter, Attempt.status, Attempt.code),
        *search_conditions(attempt_filter),
        *_client_conditions(attempt_filter),
    ]


def period_conditions(attempt_filter: AttemptFilter) -> list[ColumnElement[bool]]:
    """Return the conditions for snapshot and period.

    IDs of attempts sort by time, so a period is a range of IDs.
    """
    wanted: list[ColumnElement[bool]] = []
    if attempt_filter.since:
        wanted.append(Attempt.id >= lowest_id(attempt_filter.since))
    if attempt_filter.until:
        wanted.append(Attempt.id < lowest_id(attempt_filter.until))
    if attempt_filter.max_seq is not None:
        wanted.append(Attempt.seq <= attempt_filter.max_seq)
    return wanted


def outcome_conditions(
    attempt_filter: AttemptFilter, status: SQLColumnExpression[int], code: SQLColumnExpression[str]
) -> list[ColumnElement[bool]]:
    """Return the conditions for outcomes, codes and statuses on the given columns."""
    wanted: list[ColumnElement[bool]] = []
    if attempt_filter.outcomes:
        wanted.append(
            or_(false(), *(_outcome_condition(outcome, status) for outcome in sorted(attempt_filter.outcomes)))
        )
    if attempt_filter.codes:
        wanted.append(code.in_(sorted(attempt_filter.codes)))
    if attempt_filter.statuses:
        wanted.append(status.in_(sorted(attempt_filter.statuses)))
    return wanted


def limit_search_time(
    connection: Connection, attempt_filter: AttemptFilter, timeout_s: float = SEARCH_TIMEOUT_S
) -> None:
    """Set a statement timeout if the filter searches for a text, client address or program.

    No index may serve the search. Does nothing for other filters.
    """
    if attempt_filter.is_search:
        set_timeout(connection, timeout_s)


def set_timeout(connection: Connection, timeout_s: float = SEARCH_TIMEOUT_S) -> None:
    """Set the statement timeout of this transaction; shorten it to fit the request's deadline."""
    left = remaining_seconds()
    timeout_s = timeout_s if left is None else min(timeout_s, max(left - RENDER_S, 0.01))
    connection.execute(text(f"set local statement_timeout = '{timeout_s * 1000:.0f}ms'"))


def search_conditions(attempt_filter: AttemptFilter) -> list[ColumnElement[bool]]:
    """Return the condition for the search text, in a list that is empty if there is no text.

    The text is `=` and a username, an attempt ID, a client's request ID, a contact, or words. Each word has to be a
    part of the username or name, or a contact. Ordinary users cannot search names, and find a masked username only by a
    text with the same mask, because other searches would reveal masked characters.
    """
    sought, unmasked = attempt_filter.text.strip(), attempt_filter.unmasked
    if not sought:
        return []
    if sought.startswith("="):
        return [_username_condition(sought[1:].lstrip(), unmasked=unmasked)]
    if attempt_id := parse_id(sought):  # no contact is as long as an ID
        return [or_(Attempt.id == attempt_id, Attempt.client_request_id == sought, Attempt.username == sought)]
    alternatives = [Attempt.client_request_id == mask_request_id(sought), *_contact_conditions(sought)]
    if not unmasked:
        alternatives.append(_username_condition(sought, unmasked=False))
    return [or_(*alternatives, and_(*(_word_condition(word, unmasked=unmasked) for word in split_words(sought))))]


def _word_condition(word: str, *, unmasked: bool) -> ColumnElement[bool]:
    """Return the condition that a word is a contact, or a part of the username or name."""
    spelling = spelling_regex(word)
    in_username = Attempt.username.regexp_match(spelling)
    if unmasked:
        return or_(in_username, Attempt.sent["name"].astext.regexp_match(spelling), *_contact_conditions(word))
    return or_(and_(in_username, not_(Attempt.username.regexp_match(MAY_HAVE_CONTACT))), *_contact_conditions(word))


def _contact_conditions(text: str) -> Iterator[ColumnElement[bool]]:
    if "@" in text:
        yield Attempt.email_masked.regexp_match(f"^{spelling_regex(mask_email(text))}$")
    if digits := phone_pattern(text):
        yield func.regexp_replace(Attempt.phone_masked, r"[^\d•]", "", "g").regexp_match(digits)


def _username_condition(text: str, *, unmasked: bool) -> ColumnElement[bool]:
    """Return the condition that the username equals a text, ignoring case.

    Unless `unmasked` is set, a text with contact data matches the usernames that have the same mask.
    """
    masked = text if unmasked else mask(text)
    return login_condition(text) if masked == text else Attempt.username_shown == masked


def login_condition(login: str) -> ColumnElement[bool]:
    """Return the condition that the username equals a login, ignoring case. Uses two indexes.

    The first index has the usernames as sent, the second the folded form of those that are not lower-case ASCII.
    """
    folded = and_(_NEEDS_FOLDING, func.fold_login(Attempt.username) == fold_username(login))
    return or_(Attempt.username.in_(sorted({login, fold_username(login)})), folded)


def _client_conditions(attempt_filter: AttemptFilter) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if attempt_filter.client_address:
        wanted.append(Attempt.client_address == attempt_filter.client_address)
    if attempt_filter.client_program:
        wanted.append(Attempt.user_agent.regexp_match(spelling_regex(attempt_filter.client_program)))
    return wanted


def _outcome_condition(outcome: Outcome, status: SQLColumnExpression[int]) -> ColumnElement[bool]:
    match outcome:
        case Outcome.CREATED:
            return status == 201
        case Outcome.UNCHANGED:
            return and_(status.between(200, 299), status != 201)
        case Outcome.REJECTED:
            return status.between(400, 499)
        case Outcome.FAILED:
            return or_(status == 0, status >= 500)


def phone_pattern(text: str) -> str | None:
    """Return a regular expression for the digits and dots of masked phone numbers.

    The text is a number in any spelling, its last digits, or its mask; for any other text, returns None. Dots in the
    text and in masked numbers match any digit.
    """
    digits = re.sub(r"[^\d•]", "", text) if _PHONE.fullmatch(text) else ""
    if len(digits) < MIN_LAST_DIGITS:
        return None
    patterns = ["[0-9•]" if digit == "•" else f"[{digit}•]" for digit in digits]
    if len(digits) == 11 and digits[0] in "78":  # Russia's trunk prefix 8 stands for +7
        patterns[0] = "[78•]"
    return "".join(patterns) + "$"
