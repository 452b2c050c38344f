"""Guesses the encoding of text that is not UTF-8."""

import codecs
import json
import math
import re

CYRILLIC_CODECS = {
    "windows-1251": "cp1251",
    "KOI8-R": "koi8_r",
    "cp866": "cp866",
    "ISO 8859-5": "iso8859_5",
}
"""Name of a Cyrillic encoding -> codec in Python."""
MIN_LETTERS, MAX_RANK, MARGIN = 4, 11, 3
"""Conditions for a guess: minimum number of letters, maximum mean rank (see `_RANKS`) of the best encoding, and minimum
difference from the mean rank of the second best (measured on names)."""
_RANKS = {letter: rank for rank, letter in enumerate("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё")} | dict.fromkeys("іїєўґ", 8)
"""Rank of a letter by frequency in Russian; letters of Ukrainian and Belarusian count as frequent."""
_WORD = re.compile(r"[^\W\d_]+")
_PLAUSIBLE = re.compile(
    "[\0-\x7f\u0401\u0404\u0406\u0407\u040e\u0410-\u044f\u0451\u0454\u0456\u0457\u045e\u0490\u0491\xa0\xa7\xab\xb0\xb7\xbb\u2013\u2014\u2018-\u201e\u2026\u2116]*"
)
"""Matches texts of ASCII, Russian, Ukrainian and Belarusian letters, and the punctuation of word processors."""
_PLAUSIBLE_WORD = re.compile("[А-ЯЁЀ-Џ\u0490]*[а-яёѐ-џ\u0491]*|[a-zA-Z]+")
"""Matches words with letters of one script and, if it is Cyrillic, no capital letters after small letters."""


def guess_encoding(text: bytes) -> str | None:
    """Return the name of the encoding of a text, or None if it is unclear.

    The text must be invalid UTF-8 or contain NUL characters.
    """
    if b"\0" in text or text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _guess_utf16_or_utf32(text)
    ranks = sorted((_mean_rank(text, name), name) for name in CYRILLIC_CODECS)
    (first, name), (second, _), *_ = ranks
    return name if first <= MAX_RANK and second - first >= MARGIN else None


def _guess_utf16_or_utf32(text: bytes) -> str | None:
    """Return `UTF-16` or `UTF-32` if the text begins like JSON in that encoding, or None.

    See RFC 4627, 3.
    """
    encoding = json.detect_encoding(text)
    try:
        is_text = not encoding.startswith("utf-8") and "\0" not in text.decode(encoding)
    except UnicodeDecodeError:
        return None
    return encoding[:6].upper() if is_text else None


def _mean_rank(text: bytes, name: str) -> float:
    """Return the mean rank of the Cyrillic letters; infinity if the text is implausible."""
    try:
        decoded = text.decode(CYRILLIC_CODECS[name])
    except UnicodeDecodeError:
        return math.inf
    letters = [letter for letter in decoded.lower() if not letter.isascii() and letter.isalpha()]
    if len(letters) < MIN_LETTERS or not _PLAUSIBLE.fullmatch(decoded):
        return math.inf
    if not all(_PLAUSIBLE_WORD.fullmatch(word) for word in _WORD.findall(decoded)):
        return math.inf
    return sum(_RANKS[letter] for letter in letters) / len(letters)
