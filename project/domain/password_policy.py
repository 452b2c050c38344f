"""Which passwords people may choose (NIST SP 800-63B-4, 3.1.1.2): long ones that are not among the first guesses."""

import importlib
import re
from functools import cache
from typing import Any

from project.domain.passwords import MAX_LENGTH, MIN_CHOSEN_LENGTH
from project.domain.registration import User

MIN_GUESSES = 10**10
"""Refused is what zxcvbn guesses sooner: common passwords, words, names, dates, rows of keys, and what repeats or joins
a few of them. Our slow hash lets a thief try some ten thousand a second on one machine: these are twelve days."""
MEASURED = 72
"""Characters that are measured: the time this takes grows with the square of the length."""
MIN_OWN = 4
"""What is shorter is part of too many good passwords to be looked for."""
_RUSSIAN_KEYS = str.maketrans(
    "ёйцукенгшщзхъфывапролджэячсмитьбюЁЙЦУКЕНГШЩЗХЪФЫВАПРОЛДЖЭЯЧСМИТЬБЮ",
    "`qwertyuiop[]asdfghjkl;'zxcvbnm,.~QWERTYUIOP{}ASDFGHJKL:\"ZXCVBNM<>",
)
"""What the keys of a Russian keyboard type in English: the lists know `пароль` as `gfhjkm`."""


class WeakPasswordError(ValueError):
    """The password may not be chosen. `reason` is `short`, `long`, `own` or `common`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def check(password: str, user: User) -> None:
    """Raise WeakPasswordError if this user may not choose this password."""
    if len(password) < MIN_CHOSEN_LENGTH:
        raise WeakPasswordError("short")
    if len(password) > MAX_LENGTH:
        raise WeakPasswordError("long")
    own = [part for part in _own(user) if len(part) >= MIN_OWN]
    if any(part in password.casefold() for part in own):
        raise WeakPasswordError("own")
    words = [*own, *re.split(r"\W+", user.name.casefold())]
    if any(_guesses(typed, words) < MIN_GUESSES for typed in {password, password.translate(_RUSSIAN_KEYS)}):
        raise WeakPasswordError("common")


def _own(user: User) -> list[str]:
    """Return by what everybody knows the user: username, e-mail as far as the @, the number without its country."""
    return [user.username.casefold(), (user.email or "").partition("@")[0].casefold(), (user.phone or "")[-10:]]


def _guesses(password: str, words: list[str]) -> float:
    return float(_zxcvbn().zxcvbn(password[:MEASURED], user_inputs=words)["guesses"])


@cache
def _zxcvbn() -> Any:
    """Load its lists when they are first needed: they take 0.2 s and 12 MB, and few processes ever need them."""
    return importlib.import_module("zxcvbn")
