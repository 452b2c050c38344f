"""Validates and normalizes phone numbers."""

import re
from functools import cache, lru_cache

import phonenumbers
from phonenumbers import (
    COUNTRY_CODE_TO_REGION_CODE,
    NumberParseException,
    PhoneMetadata,
    PhoneNumber,
    ValidationResult,
)

from project.domain.errors import NO_PARAMS, Params, RuleError
from project.domain.mobile_numbers import parse_mobile_number
from project.domain.text import BLANKS, check_characters, remove_format_characters

MAX_PHONE_LENGTH = 64
MAX_DIGITS = 15
"""Maximum number of digits with country code (ITU-T E.164)."""

_BLANKS = re.compile(f"[{BLANKS}]")
_FORM = re.compile(
    r"(?:tel:)?['’]?[ (\[]*(?P<plus>[+＋]?)(?P<rest>[\d ()（）.．\-\u2010-\u2015\u2212－~～/\[\]]*)", re.IGNORECASE
)
"""Matches the text of one phone number, perhaps after an apostrophe, which marks text in spreadsheets."""
_ZERO_DECIMALS = re.compile(r"([+＋]?\d+)[.,]0+")
"""Matches a number with decimals that are zeros, as spreadsheets and pandas write whole numbers."""
_DECIMAL = re.compile(r"[.．]\d$")
_CHANGED_BY_SPREADSHEET = re.compile(
    r"[+＋]?\d+[.,]?\d*E\+?\d+|[+＋]?\d+,\d|\d{1,3}(?:,\d{3})+(?:\.\d+)?", re.IGNORECASE
)
"""Matches numbers with exponents, decimals or thousands separators. A spreadsheet may have changed their digits."""
_EXTENSION = re.compile(r"ext|доб|вн|[#x*]\s*\d|[,;]\s*\d+$", re.IGNORECASE)
_BETWEEN_NUMBERS = re.compile(r"[,;/|&]|[^\W\d_]+|(?=[+＋])")
_MIN_PART_DIGITS, _MIN_WORD_DIGITS = 6, 10
"""Minimum number of digits of a part (split by `_BETWEEN_NUMBERS`) and of a word that count as a phone number. A text
with two such parts or words contains several phone numbers."""
_PARSE_ERROR_VARIANTS = {
    NumberParseException.INVALID_COUNTRY_CODE: "unknown_country",
    NumberParseException.TOO_LONG: "too_long",
}
_LENGTH_VARIANTS = {
    ValidationResult.TOO_SHORT: "too_short",
    ValidationResult.TOO_LONG: "too_long",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "too_short",
    ValidationResult.INVALID_COUNTRY_CODE: "unknown_country",
}


@lru_cache(maxsize=256)
def normalize_phone(text: str, region: str | None) -> str:
    """Return a phone number in E.164 form. Raises RuleError.

    `region` (ISO 3166) is the country of numbers without a country code; None means that they are invalid. Cached,
    because masking and validation both parse the number of a request.
    """
    typed = strip_phone(text)
    check_characters(typed)
    if len(typed) > MAX_PHONE_LENGTH:
        raise RuleError("invalid_phone", "too_long")
    form = _FORM.fullmatch(typed)
    if form is None or _DECIMAL.search(typed):
        # phonenumbers would accept "=+7912…", ignore words after the number and take decimals for digits.
        raise RuleError("invalid_phone", _find_variant(typed))
    digits, plus = _extract_digits(form["rest"]), "+" if form["plus"] else ""
    if ("/" in typed or len(digits) > MAX_DIGITS) and _contains_several_numbers(typed):
        raise RuleError("invalid_phone", "several")
    if mobile := parse_mobile_number(digits, region, is_international=bool(plus)):
        return mobile
    number, problem, params = _parse(plus + digits, region)
    if number is None and digits.startswith("00"):  # the international prefix of most countries (ITU-T E.123)
        number, *_ = _parse(f"+{digits[2:]}", None)
    if number is None and "(0)" in typed:  # +44 (0) 20: the zero is dialled within the country only
        number, *_ = _parse(plus + _extract_digits(form["rest"].replace("(0)", "", 1)), region)
    if number is None:
        if not plus and _parse(f"+{digits}", None)[0] is not None:
            raise RuleError("invalid_phone", "without_plus")
        raise RuleError("invalid_phone", problem, **params)
    return f"+{number.country_code}{phonenumbers.national_significant_number(number)}"


def strip_phone(text: str) -> str:
    """Remove what programs add: format characters, surrounding blanks and a final `.0`.

    Other blanks become spaces.
    """
    if not (text.isascii() and text.isprintable()):
        text = _BLANKS.sub(" ", remove_format_characters(text))
    text = text.strip()
    whole = _ZERO_DECIMALS.fullmatch(text)
    return whole[1] if whole else text


def _find_variant(typed: str) -> str:
    """Return the variant of the error `invalid_phone` for a text that is not one phone number."""
    if _CHANGED_BY_SPREADSHEET.fullmatch(typed) or _DECIMAL.search(typed):
        return "calculated"
    if _EXTENSION.search(typed) and not re.search(r"[,;]\s*\d{6,}$", typed):
        return "extension"
    return "several" if _contains_several_numbers(typed) else "characters"


def _contains_several_numbers(text: str) -> bool:
    """Return whether a text contains two numbers, or the end of a second one: `123-45-67/68`."""
    parts = [sum(map(str.isdecimal, part)) for part in _BETWEEN_NUMBERS.split(text)]
    words = [sum(map(str.isdecimal, word)) for word in text.split()]
    return (
        sum(digits >= _MIN_PART_DIGITS for digits in parts) > 1
        or sum(digits >= _MIN_WORD_DIGITS for digits in words) > 1
        or ("/" in text and parts[-1] < 3)
    )


def _extract_digits(text: str) -> str:
    return "".join(filter(str.isdecimal, text))


def _parse(typed: str, region: str | None) -> tuple[PhoneNumber | None, str, Params]:
    """Return a valid number, or None with variant and parameters of the error `invalid_phone`."""
    try:
        number = phonenumbers.parse(typed, region)
    except NumberParseException as error:
        return None, _PARSE_ERROR_VARIANTS.get(error.error_type, "too_short"), NO_PARAMS
    if phonenumbers.is_valid_number(number):
        return number, "", NO_PARAMS
    counts = _count_digits(number, has_code=typed.startswith("+"))
    if counts and counts["digits"] != counts["needed"]:
        return None, "digits_missing" if counts["digits"] < counts["needed"] else "digits_extra", counts
    return None, _LENGTH_VARIANTS.get(phonenumbers.is_possible_number_with_reason(number), ""), NO_PARAMS


def _count_digits(number: PhoneNumber, *, has_code: bool) -> dict[str, int]:
    """Return the parameters of the error variants `digits_missing` and `digits_extra`.

    These are the country code, the number of digits after it, and the number that the country requires. Returns {} if
    the country is unknown or its numbers differ in length, or if the text may begin with a national prefix, which is
    not part of the number: `8 916` has only three digits.
    """
    code = number.country_code or 0
    digits = phonenumbers.national_significant_number(number)
    metadata = PhoneMetadata.metadata_for_region(phonenumbers.region_code_for_country_code(code), None)
    if metadata is None or digits.startswith("0"):
        return {}
    if not has_code and digits.startswith((metadata.national_prefix or "0", str(code))):
        return {}
    kinds = filter(None, (metadata.mobile, metadata.fixed_line))
    lengths = {length for kind in kinds for length in kind.possible_length}
    return {"country_code": code, "digits": len(digits), "needed": lengths.pop()} if len(lengths) == 1 else {}


@lru_cache(maxsize=256)
def format_phone(text: str) -> str:
    """Format an E.164 number as `+7 999 123-45-67`; return any other text unchanged."""
    if not (text.startswith("+") and text[1:].isdigit() and text.isascii()):
        return text
    for end in (2, 3, 4):  # no country code is a prefix of another one (ITU-T E.164)
        country, national = text[1:end], text[end:]
        if int(country) in COUNTRY_CODE_TO_REGION_CODE and country[0] != "0" and national:
            return f"+{country} {_group_digits(national, int(country))}"
    return text


def _group_digits(national: str, country: int) -> str:
    """Group the digits as phonenumbers.format_number() does, in a third of its time."""
    for leading, pattern, grouped in _groupings(country):
        if leading.match(national) and pattern.fullmatch(national):
            return pattern.sub(grouped, national)
    return national


@cache
def _groupings(country: int) -> tuple[tuple[re.Pattern[str], re.Pattern[str], str], ...]:
    """Return the formats of a country: pattern of first digits, pattern of a number, template."""
    region = phonenumbers.region_code_for_country_code(country)
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(country, region)
    formats = (metadata.intl_number_format or metadata.number_format) if metadata else ()
    return tuple(
        (
            re.compile(next(reversed(number_format.leading_digits_pattern), "")),
            re.compile(number_format.pattern or ""),
            number_format.format or "",
        )
        for number_format in formats
    )
