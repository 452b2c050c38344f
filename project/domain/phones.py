"""Validates and normalizes phone numbers."""

import re
from functools import lru_cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, ValidationResult

from project.domain.errors import RuleError
from project.domain.text import check_characters

MAX_PHONE_LENGTH = 64

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
