"""Phone numbers and e-mail addresses: parsed, normalized, masked."""

import re
import unicodedata
from functools import lru_cache

import phonenumbers
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from phonenumbers import (
    COUNTRY_CODE_TO_REGION_CODE,
    NumberParseException,
    PhoneNumber,
    PhoneNumberFormat,
    ValidationResult,
)

from project.domain.errors import RuleError
from project.domain.text import check_characters, clean

MAX_PHONE_LENGTH = 64
MAX_EMAIL_LENGTH = 254
"""RFC 5321 4.5.3.1.3 (erratum 1690)."""
MAX_LOCAL_LENGTH = 64
"""RFC 5321 4.5.3.1.1."""

_PLAIN_LOCAL = re.compile(r"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*", re.ASCII | re.IGNORECASE)
_PHONE_FORM = re.compile(r"(?:tel:)?[+\uff0b]?[\d\s().\-\u2010-\u2015\u2212/]*", re.IGNORECASE)
_EXTENSION = re.compile(r"ext|доб|[;#x,]", re.IGNORECASE)
_POSSIBILITY = {
    ValidationResult.TOO_SHORT: "too_short",
    ValidationResult.TOO_LONG: "too_long",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "too_short",
    ValidationResult.INVALID_COUNTRY_CODE: "unknown_country",
}


def normalize_phone(text: str, region: str) -> str:
    """Return the number in E.164, by default of `region` (ISO 3166). Raises RuleError."""
    typed = text.strip()
    check_characters(typed)
    if len(typed) > MAX_PHONE_LENGTH:
        raise RuleError("invalid_phone", "too_long")
    if not _PHONE_FORM.fullmatch(typed):
        # phonenumbers itself would accept "=+7912…" and cut off words.
        raise RuleError("invalid_phone", "extension" if _EXTENSION.search(typed) else "characters")
    try:
        number = phonenumbers.parse(typed, region)
    except NumberParseException as error:
        unknown = error.error_type == NumberParseException.INVALID_COUNTRY_CODE
        raise RuleError("invalid_phone", "unknown_country" if unknown else "too_short") from None
    if number.extension:
        raise RuleError("invalid_phone", "extension")
    if not phonenumbers.is_valid_number(number):
        possibility = phonenumbers.is_possible_number_with_reason(number)
        raise RuleError("invalid_phone", _POSSIBILITY.get(possibility, ""))
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def normalize_email(text: str) -> str:
    """Return the unique form of an address: case-folded, Unicode domain. Raises RuleError.

    Syntax follows RFC 5322 and RFC 6531. DNS is not queried, so that the result does not depend on the network.
    """
    typed = text.strip()
    check_characters(typed)
    if len(typed) > MAX_EMAIL_LENGTH:
        raise RuleError("too_long", limit=MAX_EMAIL_LENGTH, length=len(typed))
    if "@" not in typed:
        raise RuleError("invalid_email", "no_at")
    local = typed.rpartition("@")[0]
    if len(local) > MAX_LOCAL_LENGTH:
        raise RuleError("invalid_email", "long_local", limit=MAX_LOCAL_LENGTH)
    try:
        address = _normalized(typed)
    except EmailNotValidError:
        raise RuleError("invalid_email", "special_domain" if _has_special_domain(typed) else "") from None
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", address).casefold())


def _normalized(address: str) -> str:
    """Return the address with a Unicode domain. Raises EmailNotValidError."""
    local, _, domain = address.rpartition("@")
    if _PLAIN_LOCAL.fullmatch(local) and domain.isascii():  # the cache knows most domains
        return f"{local}@{_normalized_domain(domain)}"
    return validate_email(address, check_deliverability=False, strict=True).normalized


@lru_cache(maxsize=4096)
def _normalized_domain(domain: str) -> str:
    return validate_email(f"x@{domain}", check_deliverability=False, strict=True).domain


def _has_special_domain(address: str) -> bool:
    """Return whether the domain is reserved for other uses than mail (RFC 6761)."""
    labels = "." + address.rpartition("@")[2].lower()
    return any(labels.endswith("." + name) for name in SPECIAL_USE_DOMAIN_NAMES)


def mask_phone(text: str) -> str:
    """Return a number, valid or not, with five middle digits masked: `+7 999 •••-••-67`."""
    number = _grouped(clean(text.strip(), 40))
    total = sum(map(str.isdigit, number))
    first = max(min(4, total - 5), total - 7, 0)
    masked, seen = [], 0
    for character in number:
        if character.isdigit():
            masked.append("•" if first <= seen < first + 5 else character)
            seen += 1
        else:
            masked.append("•" if character.isalpha() else character)
    return "".join(masked)


def _grouped(text: str) -> str:
    """Return an E.164 number in groups of digits, any other text unchanged."""
    if not (text.startswith("+") and text[1:].isdigit() and text.isascii()):
        return text
    for end in (2, 3, 4):  # no country code is a prefix of another one (ITU-T E.164)
        country, rest = int(text[1:end]), text[end:]
        if country in COUNTRY_CODE_TO_REGION_CODE and rest:
            # phonenumbers.parse() would double the time that a phone number takes.
            number = PhoneNumber(country, int(rest), italian_leading_zero=rest.startswith("0"))
            grouped = phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
            return grouped if re.sub(r"\D", "", grouped) == text[1:] else text  # invalid numbers may lose a digit
    return text


def mask_email(text: str) -> str:
    """Return an address, valid or not, with its local part masked: `i•••@example.org`."""
    local, at, domain = clean(text.strip(), 80).rpartition("@")
    if not at:
        return f"{domain[:1]}•••"
    return f"{local[:1] if len(local) > 1 else ''}•••@{domain}"
