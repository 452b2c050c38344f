"""Builds patterns that find words in any spelling."""

import re
import unicodedata

from project.domain.usernames import fold

MAX_WORDS = 8
"""Further words of a search are ignored."""
_SAME = {"е": "её", "ё": "её"}
"""Russian texts often have е in place of ё."""
_SPECIAL = re.compile(r"([!-/:-@\[-`{-~])")


def words(text: str) -> list[str]:
    """Return the first MAX_WORDS distinct words of a search text, in NFC."""
    return list(dict.fromkeys(unicodedata.normalize("NFC", text).split()))[:MAX_WORDS]


def pattern(word: str) -> str:
    """Return a regular expression for PostgreSQL that matches a word in any spelling.

    Spellings differ in letter case, in е for ё, and in Unicode normalization. The expression contains every letter in
    both cases, because PostgreSQL ignores the case only of letters that its locale knows.
    """
    return "".join(map(_any_spelling, unicodedata.normalize("NFC", word)))


def _any_spelling(character: str) -> str:
    cases = {case for letter in _SAME.get(character.lower(), character) for case in _cases(letter)}
    spellings = sorted(cases | {unicodedata.normalize("NFD", case) for case in cases})
    escaped = [_SPECIAL.sub(r"\\\1", spelling) for spelling in spellings]
    return escaped[0] if len(escaped) == 1 else f"(?:{'|'.join(escaped)})"


def spellings_of(login: str) -> list[str]:
    """Return the usual spellings of a login.

    Attempts store a login as it was sent, and the index contains only that spelling.
    """
    forms = {login, unicodedata.normalize("NFC", login), fold(login)}
    return sorted({spelling for form in forms for spelling in (*_cases(form), form.title(), form.capitalize())})


def _cases(text: str) -> set[str]:
    return {text, text.lower(), text.upper()}
