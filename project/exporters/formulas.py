"""Puts an apostrophe before values that spreadsheets take for formulas (CWE-1236)."""

import re

from project.domain.lines import CONCAT_SEPARATOR
from project.domain.text import BIDI_CONTROLS, FORBIDDEN_INVISIBLE

INVISIBLE_CHARACTERS = "\x7f-\x9f\ud800-\udfff" + "".join(sorted(BIDI_CONTROLS | FORBIDDEN_INVISIBLE))
"""Invisible characters, in the syntax of a character class of a regular expression."""
LEAD_BYTES = b"\xc2\xd8\xe1\xe3\xef"
"""UTF-8 lead bytes of invisible characters, and of blanks and full-width signs that may begin a formula."""
PHONE_SEPARATOR = f"{CONCAT_SEPARATOR}\x02"
"""Separator before phone numbers in raw lines (see domain/lines.py): only phone numbers may begin with a plus."""
# Spreadsheets trim cells, so blanks do not disarm a formula. Japanese versions accept full-width signs.
_START = rf"(?:[^\S\t\x1e]|[{INVISIBLE_CHARACTERS}])*[=+\-@＝＋－＠]"
_FORMULA = re.compile(rf"[\t\r\n\x00]|{_START}")
_DIGITS = r"[\d• ().-]*"
_MASKED_PHONE = re.compile(rf"\+{_DIGITS}")
UNSAFE = rf"{CONCAT_SEPARATOR}(?:{_START}|\x02(?!\+{_DIGITS}{CONCAT_SEPARATOR}){_START})"
"""Matches formulas in raw lines."""
HINTS = (
    re.compile(b"\xe2(?!\x80\xa2)"),  # a lead byte as above, but not of the dots in masked contacts
    # The first lookahead halves the time of the search.
    re.compile(rf"{CONCAT_SEPARATOR}(?=[ =+@\x02-])(?:\x02(?!\+[0-9• ().-]*{CONCAT_SEPARATOR}))? *[=+@-]".encode()),
)
"""Match raw lines without LEAD_BYTES that may contain a formula or an invisible character nevertheless."""


def escape_formula(content: str, *, is_phone: bool) -> str:
    """Return a text that spreadsheets do not interpret as a formula.

    With `is_phone`, a phone number, masked or not, is returned unchanged, although it begins with a plus.
    """
    if is_phone and _MASKED_PHONE.fullmatch(content):
        return content
    return f"'{content}" if _FORMULA.match(content) else content
