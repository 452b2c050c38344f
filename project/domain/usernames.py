"""Rules for usernames: unique after case folding, in one script, so that none look alike.

Stricter than RFC 8265 (PRECIS UsernameCaseMapped), which allows a Cyrillic "а" in a Latin name.
"""

import re
import unicodedata

from project.domain.errors import RuleError
from project.domain.text import check_characters, trim

MAX_LENGTH = 150
_SIGNS = "@.+_-"
_PLAIN = re.compile(rf"[{_SIGNS}]*[a-z0-9][a-z0-9{_SIGNS}]*")
"""Matches a valid folded username in ASCII, as most are: a fast path."""
_SCRIPTS = (
    re.compile(
        "[a-z\u00df-\u00f6\u00f8-\u0131\u0134-\u013e\u0141-\u0148\u014a-\u017e\u01a1\u01b0\u01cd-\u01dc\u01de-\u01e3"
        "\u01e6-\u01f0\u01f5\u01f8-\u021b\u021e-\u021f\u0226-\u0233\u0259\u1e00-\u1e99\u1ea0-\u1ef9]"
    ),
    re.compile("[\u0430-\u045f\u048a-\u04ff\u0510-\u0529\u052e-\u052f]"),
)
"""Patterns of a Latin and of a Cyrillic letter that UTS 39 recommends for identifiers: no small capitals, no phonetic
letters."""
_DIGITS_AND_SIGNS = re.compile(rf"[0-9{_SIGNS}]")
_DOTTED_I = re.compile("i\u0307+")


def fold_username(username: str) -> str:
    """Fold a username by NFKC and case folding. Folded usernames are unique.

    See Unicode 3.13 and RFC 8265, 3.3. Case folding turns `İ` into `i` with a combining dot. The dot is
    removed, because it is invisible above an `i`.
    """
    if username.isascii():  # fast path: nothing to normalize
        return username.lower()
    folded = unicodedata.normalize("NFKC", username).casefold()
    return unicodedata.normalize("NFKC", _DOTTED_I.sub("i", folded))


def check_username(username: str) -> str:
    """Check a username; return it without surrounding blanks. Raises RuleError."""
    username = trim(username)
    if not username:
        raise RuleError("blank")
    if len(username) > MAX_LENGTH:
        raise RuleError("too_long", limit=MAX_LENGTH, length=len(username))
    check_characters(username)
    folded = fold_username(username)
    if not _PLAIN.fullmatch(folded):
        _check_letters(username, folded)
    return username


def _check_letters(username: str, folded: str) -> None:
    if any(map(str.isspace, folded)):
        raise RuleError("invalid_username", "blank")
    letters = _DIGITS_AND_SIGNS.sub("", folded)
    strange = next((letter for letter in letters if not any(script.match(letter) for script in _SCRIPTS)), None)
    if strange is not None:
        raise RuleError("invalid_username", "character", character=strange, codepoint=f"U+{ord(strange):04X}")
    if all(script.search(letters) for script in _SCRIPTS):
        raise _mixed_scripts(username)
    if not letters and not re.search("[0-9]", folded):
        raise RuleError("invalid_username", "only_signs")


def _mixed_scripts(username: str) -> RuleError:
    """Return the error that points to the first letter of the rarer script."""
    latin, cyrillic = (
        [
            (position, letter)
            for position, letter in enumerate(username, start=1)
            if script.search(fold_username(letter))
        ]
        for script in _SCRIPTS
    )
    variant, letters = ("latin_letter", latin) if len(latin) < len(cyrillic) else ("cyrillic_letter", cyrillic)
    position, letter = letters[0]
    return RuleError("invalid_username", variant, position=position, character=letter)
