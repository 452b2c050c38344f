"""Masks contact data, by the same rules for stored and for displayed values.

These parts stay visible: of a valid phone number, the country code, the operator code and the last two digits; of any
other text with seven or more digits, the last two digits; of an e-mail address, the first letter and the domain.

Masking a masked value again does not change it, with one exception: a masked number from a rare range may no longer be
recognized as valid, and then more of its digits are hidden.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from project.domain.dates import is_birth_date
from project.domain.errors import FIELDS, RuleError
from project.domain.phones import MAX_PHONE_LENGTH, format_phone, normalize_phone, strip_phone

DOTS = "•••"
NOT_TEXT = frozenset({"(null)", "(boolean)", "(number)", "(array)", "(object)"})
"""Texts that NewAttempt.store_body() stores in place of values that are not strings."""
MIN_DIGITS = 7
"""Minimum number of digits of a text that may contain a phone number."""
MIN_HIDDEN_DIGITS = 5
"""Minimum number of digits hidden in a valid number, even in a short one."""

_AT = re.compile("[@＠﹫]")
_CONTACT = re.compile(r"[@＠﹫]|\d(?:.*?\d){6}|[²³¹⁰⁴-⁹₀-₉①-⑨⓪]", re.DOTALL)
"""Quick check: matches every text that must be masked, and few other texts."""
_OPENING = re.compile(r"(?:mailto:|[<(\[{\"'«„“‘:;,])*", re.IGNORECASE)
_END_OF_ADDRESS = re.compile(r".*[,;>)\]]", re.DOTALL)
"""Matches the text up to the punctuation after an address, if another address follows without a space."""
_LETTER = re.compile(r"[^\W\d_]")
_LONG_NUMBER = re.compile(r"\+?\d[\d ()\-]{8,}\d")
"""Matches a phone number in a User-Agent header; versions and dates have fewer digits in a row."""
_INTERNATIONAL = re.compile(r"\+\d[\d()\-]{8,}\d")
_MASKED_NUMBER = re.compile(r"[^•]*\d[^•]*•[^\d]*\d\D*\d\D*")
_FILLERS = ("12345678", "23456789", "55501234", "20000000", *(8 * digit for digit in "0123456789"))
"""Digits to try in place of the dots of a masked number, to find out whether the number was valid."""


def mask(text: str) -> str:
    """Mask contact data in a login, name or other text."""
    if _CONTACT.search(text) is None:
        return text
    if _AT.search(text):
        text = _mask_addresses(text)
    elif hidden := _digits_to_hide(text, None):
        return _hide(text, hidden)
    return _hide(text) if sum(map(str.isdigit, text)) >= MIN_DIGITS else text


def mask_field(name: str, text: str, region: str | None = None) -> str:
    """Mask the value of the field `name`.

    `region` is the country of phone numbers without a country code; None means that they are invalid. A birth date
    is returned unchanged: its eight digits are not a phone number.
    """
    match name:
        case _ if text in NOT_TEXT:
            return text
        case "phone":
            return mask_phone(text, region)
        case "email":
            return mask_email(text)
        case "birth_date" if is_birth_date(text):
            return text
        case _:
            return mask(text)


def mask_fields(sent: Mapping[str, str]) -> dict[str, str]:
    """Mask the names of unknown fields and all values except phone and e-mail.

    Phone and e-mail are masked already, by NewAttempt.store_body().
    """
    return {
        name if name in FIELDS else mask(name): text if name in ("phone", "email") else mask_field(name, text)
        for name, text in sent.items()
    }


def mask_phone(text: str, region: str | None = None) -> str:
    """Mask the value of the field `phone`, valid or not: `+7 999 •••-••-67`, `·· •••67`.

    `region` is the country of numbers without a country code; None means that they are invalid.
    """
    text = strip_phone(text)
    if hidden := _digits_to_hide(text, region):
        return _hide(format_phone(_without_scheme(text)), hidden)
    if _AT.search(text):
        return _hide(_mask_addresses(text))
    return "".join("·" if character.isalpha() else character for character in _hide(text))


def mask_valid_phone(number: str) -> str:
    """Mask a valid phone number in E.164 form."""
    return _hide(format_phone(number), _digits_to_hide_of_valid(number))


def mask_email(text: str) -> str:
    """Mask the value of the field `email`, valid or not: `i•••@example.org`."""
    *local, domain = _AT.split(text.strip())
    if not local:
        return f"{domain[:1].strip('•')}{DOTS}"
    masked = f"{_first_letter('@'.join(local))}{DOTS}@{domain}"
    return mask(masked) if sum(map(str.isdigit, domain)) >= MIN_DIGITS - 1 else masked


def mask_user_agent(text: str) -> str:
    """Mask contact data in a User-Agent header, but not version numbers."""
    if _AT.search(text):
        text = _mask_addresses(text)
    return _LONG_NUMBER.sub(lambda match: _hide(match[0], _digits_to_hide(match[0], None)), text)


def mask_request_id(text: str) -> str:
    """Mask contact data in a client's request ID, but not other digits."""
    if _AT.search(text):
        text = _mask_addresses(text)
    if text[:1].isdigit():
        number = f"+7{text[1:]}" if text[0] == "8" and len(text) == 11 else f"+{text}"
        if hidden := _digits_to_hide(number, None):
            return _hide(text, hidden)
    return _INTERNATIONAL.sub(lambda match: _hide(match[0], _digits_to_hide(match[0], None)), text)


def mask_name(name: str) -> str:
    """Mask a name; return its first word and the initials of the other words: `Иван П.`."""
    first, *others = mask(name).split() or [""]
    return " ".join([first, *(f"{other[0]}." for other in others if other[0] != "•")])


def _mask_addresses(text: str) -> str:
    """Hide everything between the first letter and the @ of each address."""
    parts = _AT.split(text)
    for index in range(len(parts) - 1):
        local = parts[index].rstrip()
        words = local.split()
        head = local[: -len(words[-1])] if words else ""
        if index and not head and (end := _END_OF_ADDRESS.match(local)):
            head = end[0]
        head += _OPENING.match(local, len(head))[0]  # type: ignore[index]  # it matches an empty text, too
        if len(head) < len(local):
            parts[index] = f"{head}{_first_letter(local[len(head) :])}{DOTS}"
            parts[index + 1] = parts[index + 1].lstrip()
    return "@".join(parts)


def _first_letter(local: str) -> str:
    """Return the first letter of a local part; "" if it has one letter only or is masked."""
    return local[0] if len(local) > 1 and local[0] != "•" else ""


def _hide(text: str, hidden: int = 0) -> str:
    """Replace `hidden` digits before the last two with dots; 0 means all digits before them."""
    is_address = "@" in text  # the dots of an address mask letters
    digits = [index for index, sign in enumerate(text) if sign.isdigit() or (sign == "•" and not is_address)][:-2]
    masked = list(text)
    for index in digits[-hidden:]:
        masked[index] = "•"
    return re.sub("•{4,}@", f"{DOTS}@", "".join(masked))


def _digits_to_hide(text: str, region: str | None) -> int:
    """Return how many digits to hide before the last two of a number, 0 if it is invalid.

    The number may be masked.
    """
    if "•" not in text:
        return _digits_to_hide_without_dots(text, region)
    dots = text.count("•")
    if len(text) > MAX_PHONE_LENGTH or dots > len(_FILLERS[0]) or not _MASKED_NUMBER.fullmatch(text):
        return 0
    for filler in _FILLERS:
        digits = iter(filler)
        filled = "".join(next(digits) if character == "•" else character for character in text)
        if hidden := _digits_to_hide_without_dots(filled, region):
            return max(hidden, dots)
    return 0


def _without_scheme(text: str) -> str:
    """Return a number without the `tel:` of a URI (RFC 3966)."""
    return text[4:] if text[:4].lower() == "tel:" else text


def _digits_to_hide_without_dots(text: str, region: str | None) -> int:
    if _LETTER.search(_without_scheme(text)):  # fast path: most logins with many digits have letters
        return 0
    try:
        return _digits_to_hide_of_valid(normalize_phone(text, region))
    except RuleError:
        return 0


@lru_cache(maxsize=256)
def _digits_to_hide_of_valid(number: str) -> int:
    """Return how many digits to hide before the last two of a valid E.164 number.

    Cached, because each number is masked twice.
    """
    total = len(number) - 1
    _, country, *others = re.split(r"\D+", format_phone(number))
    prefix = min(len(country) + (len(others[0]) if len(others) > 1 else 0), total - 2 - MIN_HIDDEN_DIGITS)
    return total - 2 - (prefix if prefix >= len(country) else 0)
