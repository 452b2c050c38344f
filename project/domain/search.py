"""Builds regular expressions that match words in any spelling."""

import re
import unicodedata

MAX_WORDS = 8
"""Maximum number of words of a search; further words are ignored."""
_EQUIVALENT_LETTERS = {"е": "её", "ё": "её", "i": "iİ"}
"""Letter -> letters that match. Russian texts often have е in place of ё; usernames fold the Turkish İ to i."""
_SPECIAL = re.compile(r"([!-/:-@\[-`{-~])")


def split_words(text: str) -> list[str]:
    """Return the first MAX_WORDS distinct words of a search text, in NFC."""
    return list(dict.fromkeys(unicodedata.normalize("NFC", text).split()))[:MAX_WORDS]


def spelling_regex(word: str) -> str:
    """Return a regular expression for PostgreSQL that matches a word in any spelling.

    Spellings differ in letter case, in е for ё, in i for İ, and in Unicode normalization. The expression contains every
    letter in both cases, because PostgreSQL ignores the case only of letters that its locale knows.
    """
    return "".join(map(_spelling_alternatives, unicodedata.normalize("NFC", word)))


def _spelling_alternatives(character: str) -> str:
    cases = {case for letter in _EQUIVALENT_LETTERS.get(character.lower(), character) for case in _cases(letter)}
    spellings = sorted(cases | {unicodedata.normalize("NFD", case) for case in cases})
    escaped = [_SPECIAL.sub(r"\\\1", spelling) for spelling in spellings]
    return escaped[0] if len(escaped) == 1 else f"(?:{'|'.join(escaped)})"


def _cases(text: str) -> set[str]:
    return {text, text.lower(), text.upper()}
