"""Rules for passwords that users choose (NIST SP 800-63B-4, 3.1.1.2)."""

import importlib
import re
from functools import cache
from typing import Any

from project.domain.passwords import MAX_LENGTH, MIN_CHOSEN_LENGTH
from project.domain.registration import User

MIN_GUESSES = 10**10
"""Minimum number of guesses that find a password, as estimated by zxcvbn, which assumes that an attacker tries common
passwords, words, names, dates, keyboard rows and their combinations first. At 10,000 guesses a second, which the slow
hash allows on one machine, the guesses take 12 days.
"""
MAX_MEASURED_LENGTH = 72
"""Maximum number of characters passed to zxcvbn, which takes time by the square of the length."""
MIN_PERSONAL_LENGTH = 4
"""Minimum length of personal data that a password must not contain: too many good passwords contain shorter data."""
_RUSSIAN_KEYS = str.maketrans(
    "ёйцукенгшщзхъфывапролджэячсмитьбюЁЙЦУКЕНГШЩЗХЪФЫВАПРОЛДЖЭЯЧСМИТЬБЮ",
    "`qwertyuiop[]asdfghjkl;'zxcvbnm,.~QWERTYUIOP{}ASDFGHJKL:\"ZXCVBNM<>",
)
"""Maps Russian letters to English letters on the same keys: word lists contain `пароль` as `gfhjkm`."""


class WeakPasswordError(ValueError):
    """A refused password. `reason`: `short`, `long`, `own` (has personal data) or `common`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def check_password(password: str, user: User) -> None:
    """Raise WeakPasswordError if the policy refuses this password for this user."""
    if len(password) < MIN_CHOSEN_LENGTH:
        raise WeakPasswordError("short")
    if len(password) > MAX_LENGTH:
        raise WeakPasswordError("long")
    # The phone number without its country code.
    texts = (user.username.casefold(), (user.email or "").partition("@")[0].casefold(), (user.phone or "")[-10:])
    personal = [text for text in texts if len(text) >= MIN_PERSONAL_LENGTH]
    if any(text in password.casefold() for text in personal):
        raise WeakPasswordError("own")
    words = [*personal, *re.split(r"\W+", user.name.casefold())]
    for typed in {password, password.translate(_RUSSIAN_KEYS)}:
        if _zxcvbn().zxcvbn(typed[:MAX_MEASURED_LENGTH], user_inputs=words)["guesses"] < MIN_GUESSES:
            raise WeakPasswordError("common")


@cache
def _zxcvbn() -> Any:
    """Import zxcvbn on first use: it takes 0.2 s and 12 MB, and few processes need it."""
    return importlib.import_module("zxcvbn")
