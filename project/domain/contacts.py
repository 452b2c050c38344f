"""Validates and normalizes phone numbers and e-mail addresses."""

import re
import unicodedata
from functools import lru_cache

import phonenumbers
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from phonenumbers import NumberParseException, PhoneNumberFormat, ValidationResult

from project.domain.errors import RuleError
from project.domain.text import check_characters

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


@lru_cache(maxsize=256)
def normalize_phone(text: str, region: str | None) -> str:
    """Return a phone number in E.164 form. Raises RuleError.

    `region` (ISO 3166) is the country of numbers without country code. Cached, because masking and validation of a
    request both call this.
    """
    typed = text.strip()
    check_characters(typed)
    if len(typed) > MAX_PHONE_LENGTH:
        raise RuleError("invalid_phone", "too_long")
    if not _PHONE_FORM.fullmatch(typed):
        # phonenumbers would accept "=+7912…" and ignore words after the number.
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
    """Return an e-mail address case-folded and with a Unicode domain. Raises RuleError.

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
    """Return whether the domain is reserved for special use, without mail (RFC 6761)."""
    labels = "." + address.rpartition("@")[2].lower()
    return any(labels.endswith("." + name) for name in SPECIAL_USE_DOMAIN_NAMES)
