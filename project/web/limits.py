"""Who may ask how often: rules, and under what name the one who asks is counted."""

import hashlib
import ipaddress
import logging

from flask import g

from project.services.limits import Rule, Wish
from project.services.login import identifiers
from project.web.context import this_request
from project.web.guards import known_key
from project.web.tools import tools

log = logging.getLogger(__name__)

EVERYBODY = "everybody"
GUESSES = Rule("guesses", 10, 60)
"""Wrong passwords from one address (ASVS 5.0.0, 6.3.1)."""
ACCOUNT_GUESSES = Rule("account-guesses", 30, 3600)
"""Wrong passwords for one account from one address. Never for the account alone: strangers could lock its owner out."""
EXPORTS = Rule("exports", 30, 60)
CHANGES = Rule("changes", 60, 60)
"""What one administrator changes."""
RECORDED, ALL_RECORDED = Rule("recorded", 10, 60), Rule("all-recorded", 600, 60)
"""Refusals by a limit that become rows, of one client and of all in a process: a flood must not fill the database."""
TOLD = Rule("told", 1, 60)


def spend_attempt() -> None:
    """Count a request to /useradd. Raises RateLimitedError when its client, or all together, sent too many."""
    parts, who = tools(), client()
    rules = parts.rules
    parts.limits.take(Wish(rules.conflicts, who, 0), Wish(rules.client, who), Wish(rules.everybody, EVERYBODY))


def note_conflict() -> None:
    """Count an answer that tells what is taken: who gets many of them collects names (S39)."""
    tools().limits.note(Wish(tools().rules.conflicts, client()))


def spend_reader(rule: Rule) -> None:
    """Count something that the reader does. Raises RateLimitedError when that is too often."""
    tools().limits.take(Wish(rule, str(g.reader.account.id)))


def takes_record() -> bool:
    """Tell whether one more refusal by a limit shall become a row. If not, the log says so, once a minute."""
    limits = tools().limits
    if limits.takes_here(Wish(RECORDED, client()), Wish(ALL_RECORDED, EVERYBODY)):
        return True
    if limits.takes_here(Wish(TOLD, EVERYBODY)):
        log.warning("a flood of refused requests is not recorded one by one")
    return False


class Guesses:
    """The wrong passwords for an account that came from where this request comes from."""

    def __init__(self, account: str) -> None:
        self._here = address()
        self._account = f"{account} {self._here}"

    @classmethod
    def of_login(cls, login: str) -> "Guesses":
        """Return those for a login, in whatever spelling; none is kept in the clear."""
        forms = "\0".join(identifiers(login, tools().config.phone_region))
        return cls(hashlib.sha256(forms.encode(errors="replace")).hexdigest()[:32])

    def check(self) -> None:
        """Raise RateLimitedError when there were too many: then nothing is tried, the right password included."""
        tools().limits.take(Wish(GUESSES, self._here, 0), Wish(ACCOUNT_GUESSES, self._account, 0))

    def note(self) -> None:
        """Count one more."""
        tools().limits.note(Wish(GUESSES, self._here), Wish(ACCOUNT_GUESSES, self._account))


def client() -> str:
    """Return the name under which a program with a key, or else an address, is counted."""
    key = known_key()
    return address() if key is None else f"key-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def address() -> str:
    """Return the address of the client, of IPv6 its network: a household or server has 2**64 addresses of its own."""
    text: str = this_request().environ.get("REMOTE_ADDR", "")
    if ":" not in text:
        return text
    try:
        found = ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError:
        return text
    return str(found.ipv4_mapped or ipaddress.IPv6Network((found, 64), strict=False))
