"""Parses logins: a login is a username, a phone number or an e-mail address."""

import re
from contextlib import suppress
from dataclasses import dataclass

from project.domain.emails import fold_email, normalize_email
from project.domain.errors import RuleError
from project.domain.phones import normalize_phone
from project.domain.usernames import fold_username

_MANY_DIGITS = re.compile(r"[+0-9.-]{7,}")
"""Matches a username that may be a phone number."""


@dataclass(frozen=True, slots=True)
class Identifiers:
    """The unique identifiers that a login may stand for.

    `phone` and `email` are None if the login cannot be a phone number or an e-mail address.
    """

    username: str
    phone: str | None
    email: str | None

    @property
    def canonical(self) -> str:
        """A key for rate limits that is the same for all spellings of a login."""
        return self.phone or self.email or self.username


def parse_login(login: str, region: str) -> Identifiers:
    """Return the username, the phone number and the e-mail address that a login may stand for.

    An invalid e-mail address is folded like a username: former versions accepted and folded such addresses.
    """
    username = fold_username(login)
    phone = email = None
    with suppress(RuleError):
        phone = normalize_phone(login, region)
    if "@" in username:
        try:
            email = fold_email(normalize_email(login))
        except RuleError:
            email = username
    return Identifiers(username, phone, email)


def check_contact_as_username(username: str, phone: str | None, email: str | None, region: str) -> str:
    """Return the username. Raises RuleError if it is a contact that is not the user's own.

    A contact is a phone number or an e-mail address. `phone` and `email` are the user's own, `region` is the country of
    numbers without a country code.
    """
    folded = fold_username(username)
    meant: str | None = None
    if "@" in folded:
        with suppress(RuleError):
            meant = fold_email(normalize_email(folded))
        if meant and (email is None or meant != fold_email(email)):
            raise RuleError("invalid_username", "email_of_another", field="email")
    elif _MANY_DIGITS.fullmatch(folded):
        with suppress(RuleError):
            meant = normalize_phone(folded, region)
        if meant and meant != phone:
            raise RuleError("invalid_username", "phone_of_another", field="phone")
    return username
