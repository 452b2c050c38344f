"""Characters that text may contain in the database, logs and files."""

import unicodedata

from project.domain.errors import RuleError

BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Bidirectional controls (Unicode UAX 9): they make one name look like another (CVE-2021-42574)."""

INVISIBLE = frozenset("\u00ad\u200b\u2028\u2029\u2060\ufeff")
"""Invisible characters that no name needs. U+200C and U+200D are allowed: Persian and emoji need them."""


def _is_forbidden(character: str) -> bool:
    return (
        unicodedata.category(character) in {"Cc", "Cs"}
        or character in BIDI_CONTROLS
        or character in INVISIBLE
        # Noncharacters (Unicode 23.7), which XML forbids. Unassigned code points may be new emoji.
        or ord(character) & 0xFFFE == 0xFFFE
        or "\ufdd0" <= character <= "\ufdef"
    )


def check_characters(text: str) -> None:
    """Raise RuleError at the first control, surrogate, invisible or bidirectional character."""
    if text.isprintable():  # fast path: no forbidden character is printable (Python documentation)
        return
    for position, character in enumerate(text, start=1):
        if not character.isalnum() and _is_forbidden(character):
            raise RuleError("invalid_characters", position=position, codepoint=f"U+{ord(character):04X}")


def clean(text: str, limit: int) -> str:
    """Return any text as one printable line of at most `limit` characters."""
    line = text[:limit]
    if not line.isprintable():
        line = "".join("\ufffd" if _is_forbidden(character) else character for character in line)
    return line if len(text) <= limit else line[:-1] + "…"


def trimmed_name(text: str, limit: int) -> str:
    """Return a name, stripped and in NFC (Unicode UAX 15). Raises RuleError."""
    name = unicodedata.normalize("NFC", text.strip())
    if not name:
        raise RuleError("blank")
    if len(name) > limit:
        raise RuleError("too_long", limit=limit, length=len(name))
    check_characters(name)
    if not any(unicodedata.category(character)[0] in "LNPS" for character in name):
        raise RuleError("blank")
    return name
