"""Recognizes mobile phone numbers by numbering plans, faster than phonenumbers.parse().

Most users have mobile numbers, and phonenumbers.parse() takes a tenth of the time of a request (measured). The plans
are the metadata of phonenumbers. Ambiguous numbers are left to phonenumbers.parse().
"""

import re
from functools import cache
from typing import NamedTuple

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, country_code_for_region

_MAX_CODE_DIGITS = 3
"""Maximum number of digits of a country code (ITU-T E.164)."""


class _Plan(NamedTuple):
    """The numbering plan of the main region of a country code."""

    code: str
    region: str
    mobile: re.Pattern[str]
    general: re.Pattern[str]
    leading: re.Pattern[str]
    """Matches the first digits that only numbers of the main region have; matches all numbers if there are none."""
    lengths: frozenset[int]
    prefix: re.Pattern[str]
    """Matches the national prefix (such as 8 in Russia), which phonenumbers.parse() removes."""
    literal_prefix: str
    """The national prefix, if it consists of fixed digits; otherwise empty."""
    international_prefix: re.Pattern[str]


def parse_mobile_number(digits: str, region: str | None, *, is_international: bool) -> str | None:
    """Return the E.164 form of a valid mobile number; None for other and ambiguous numbers.

    `digits` begin with the country code if `is_international`; otherwise they are a national number of `region`
    (ISO 3166), or ambiguous if it is None.
    """
    if not digits.isascii():
        return None
    if is_international:
        plan = next(filter(None, (_numbering_plan(digits[:end]) for end in range(1, _MAX_CODE_DIGITS + 1))), None)
        national = digits[len(plan.code) :] if plan else ""
    else:
        plan = _numbering_plan(str(country_code_for_region(region))) if region else None
        if plan is None or plan.region != region or digits.startswith(plan.code):
            return None
        if plan.international_prefix.match(digits):
            return None
        national = digits.removeprefix(plan.literal_prefix)
    if plan is None or not _is_mobile(national, plan):
        return None
    return f"+{plan.code}{national}"


def _is_mobile(national: str, plan: _Plan) -> bool:
    return (
        len(national) in plan.lengths
        and national[0] != "0"
        and plan.mobile.fullmatch(national) is not None
        and plan.general.fullmatch(national) is not None
        and plan.leading.match(national) is not None
        and not plan.prefix.match(national)
    )


@cache
def _numbering_plan(code: str) -> _Plan | None:
    """Return the numbering plan of a country code, or None if there is no simple one.

    A plan is not simple if it changes dialled digits or has no pattern for mobile numbers.
    """
    regions = COUNTRY_CODE_TO_REGION_CODE.get(int(code)) if code.isdigit() and code[0] != "0" else None
    metadata = PhoneMetadata.metadata_for_region(regions[0], None) if regions else None
    if regions is None or metadata is None or metadata.national_prefix_transform_rule:
        return None
    mobile, general = metadata.mobile, metadata.general_desc
    if not (mobile and mobile.national_number_pattern and general and general.national_number_pattern):
        return None
    prefix = metadata.national_prefix_for_parsing or ""
    return _Plan(
        code=code,
        region=regions[0],
        mobile=re.compile(mobile.national_number_pattern),
        general=re.compile(general.national_number_pattern),
        leading=re.compile(metadata.leading_digits or ""),
        lengths=frozenset(mobile.possible_length or general.possible_length),
        prefix=re.compile(prefix or r"\Z."),
        literal_prefix=prefix if prefix.isdigit() else "",
        international_prefix=re.compile(metadata.international_prefix or r"\Z."),
    )
