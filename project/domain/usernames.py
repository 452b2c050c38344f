"""Rules for usernames: unique after folding and in one script, so that none look the same.

Stricter than RFC 8265 (PRECIS UsernameCaseMapped), which allows a Cyrillic "а" in a Latin name.
"""

import re
import unicodedata

from project.domain.errors import RuleError
from project.domain.text import check_characters

MAX_LENGTH = 150
SIGNS = frozenset("@.+-_")
_PLAIN = re.compile(r"[@.+_-]*[a-z0-9][a-z0-9@.+_-]*")
"""Fast path: most folded usernames are Latin and need no lookup in Unicode tables."""


def fold(username: str) -> str:
    """Return the form that must be unique: NFKC, case-folded (Unicode 3.13, RFC 8265 3.3)."""
    folded = unicodedata.normalize("NFKC", username).casefold()
    return unicodedata.normalize("NFKC", folded)


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "")
    return next((script for script in ("LATIN", "CYRILLIC") if name.startswith(script)), "")


def check(username: str) -> str:
    """Check a username and return it unchanged. Raises RuleError."""
    if not username.strip():
        raise RuleError("blank")
    if len(username) > MAX_LENGTH:
        raise RuleError("too_long", limit=MAX_LENGTH, length=len(username))
    check_characters(username)
    folded = fold(username)
    if _PLAIN.fullmatch(folded):
        return username
    letters = [character for character in folded if not ("0" <= character <= "9" or character in SIGNS)]
    scripts = {_script(letter) if letter.isalpha() else "" for letter in letters}
    if "" in scripts or not any(character.isalnum() for character in folded):
        raise RuleError("invalid_username")
    if len(scripts) > 1:
        raise RuleError("invalid_username", "mixed_scripts")
    return username
