"""Tells what a login may be: a username, a phone number or an e-mail address."""

import re
from contextlib import suppress
from dataclasses import dataclass

from project.domain.emails import fold_email, normalize_email
from project.domain.errors import RuleError
from project.domain.phones import normalize_phone
from project.domain.usernames import fold

_MANY_DIGITS = re.compile(r"[+0-9.-]{7,}")
"""A username of these characters may read as a phone number."""


@dataclass(frozen=True, slots=True)
class Identifiers:
    """The unique forms by which the user with a login is found."""

    username: str
    phone: str | None
    email: str | None

    @property
    def canonical(self) -> str:
        """One form for all spellings of a login."""
        return self.phone or self.email or self.username


def read_login(login: str, region: str) -> Identifiers:
    """Return the username, the phone number and the e-mail address that a login may be.

    An address that breaks a rule may be that of a user of a former version, which folded the whole of it.
    """
    username = fold(login)
    phone = email = None
    with suppress(RuleError):
        phone = normalize_phone(login, region)
    if "@" in username:
        try:
            email = fold_email(normalize_email(login))
        except RuleError:
            email = username
    return Identifiers(username, phone, email)


def check_own(username: str, phone: str | None, email: str | None, region: str) -> str:
    """Return a username, unless it reads as a contact of another user. Raises RuleError."""
    folded = fold(username)
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
