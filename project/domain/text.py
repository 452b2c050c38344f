"""Rules for the characters of texts in the database, logs and files."""

import re
import unicodedata

from project.domain.errors import RuleError

BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Bidirectional controls (Unicode UAX 9): they make one name look like another (CVE-2021-42574)."""

FORBIDDEN_INVISIBLE = frozenset("\u00ad\u200b\u2028\u2029\u2060\ufeff")
"""Invisible characters that no name needs. U+200C and U+200D are allowed: Persian and emoji need them."""

_FILLERS = "\u115f\u1160\u2800\u3164\uffa0"
BLANKS = "".join(character for character in map(chr, range(0x3001)) if character.isspace()) + _FILLERS
"""Characters that str.isspace() accepts, and letters and symbols that look like a blank."""
FORMAT_CHARACTERS = "\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff" + "".join(
    map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x2070)))
)
"""Invisible format characters (Unicode category Cf), which programs put around copied text."""
_FORMAT_CHARACTERS = re.compile(f"[{FORMAT_CHARACTERS}]")
_BLANKS_AND_FORMATS = BLANKS + FORMAT_CHARACTERS
WITHOUT_GLYPH = re.compile(
    f"[{_FILLERS}\u034f\u17b4\u17b5\u180b-\u180f\u2065\ufe00-\ufe0f\ufff0-\ufffd\U0001d159\U000e0000-\U000e0fff]"
)
"""Matches a letter, mark, symbol or unassigned code point that is invisible or shown as a placeholder."""


def _is_forbidden(character: str) -> bool:
    return (
        unicodedata.category(character) in {"Cc", "Cs"}
        or character in BIDI_CONTROLS
        or character in FORBIDDEN_INVISIBLE
        # Noncharacters (Unicode 23.7), which XML forbids. Unassigned code points may be new emoji.
        or ord(character) & 0xFFFE == 0xFFFE
        or "\ufdd0" <= character <= "\ufdef"
    )


def check_characters(text: str) -> None:
    """Raise RuleError at the first forbidden character.

    Forbidden are controls, surrogates, invisible and bidirectional characters, and noncharacters.
    """
    if text.isprintable():  # fast path: no forbidden character is printable (Python documentation)
        return
    for position, character in enumerate(text, start=1):
        if not character.isalnum() and _is_forbidden(character):
            raise RuleError("invalid_characters", position=position, codepoint=f"U+{ord(character):04X}")


def trim(text: str) -> str:
    """Return the text without blanks and format characters at its start and end."""
    return text.strip(_BLANKS_AND_FORMATS)


def remove_format_characters(text: str) -> str:
    """Return the text without format characters."""
    return _FORMAT_CHARACTERS.sub("", text)


def is_blank(text: str) -> bool:
    """Return whether the text has no visible characters."""
    if text[:1].isascii() and text[:1].isalnum():  # fast path
        return False
    return not any(map(_is_visible, text))


def _is_visible(character: str) -> bool:
    category = unicodedata.category(character)
    # Unassigned code points may be new emoji.
    return (category[0] in "LNPS" or category == "Cn") and not WITHOUT_GLYPH.match(character)


def clean(text: str, limit: int) -> str:
    """Replace forbidden characters by U+FFFD; cut a text longer than `limit`, ending in `…`.

    Forbidden are the characters that check_characters() refuses.
    """
    line = text[:limit]
    if not line.isprintable():
        line = "".join("\ufffd" if _is_forbidden(character) else character for character in line)
    return line if len(text) <= limit else line[:-1] + "…"


def normalize_name(text: str, limit: int) -> str:
    """Check a name; return it in NFC (UAX 15) without surrounding blanks. Raises RuleError."""
    name = unicodedata.normalize("NFC", text.strip(BLANKS))
    if not name:
        raise RuleError("blank")
    if len(name) > limit:
        raise RuleError("too_long", limit=limit, length=len(name))
    check_characters(name)
    if is_blank(name):
        raise RuleError("blank")
    return name
