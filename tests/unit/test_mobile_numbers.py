"""The shortcut for mobile numbers agrees with the parser of phonenumbers."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import NumberParseException, PhoneNumberType

from project.domain.mobile_numbers import parse_mobile_number

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)


def parsed(digits: str, region: str | None, *, is_international: bool) -> str | None:
    """Return what the parser makes of a number, None if it is invalid."""
    try:
        number = phonenumbers.parse(f"+{digits}" if is_international else digits, region)
    except NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return f"+{number.country_code}{phonenumbers.national_significant_number(number)}"


def agrees(digits: str, region: str | None, *, is_international: bool) -> bool:
    found = parse_mobile_number(digits, region, is_international=is_international)
    return found is None or found == parsed(digits, region, is_international=is_international)


def spellings(region: str) -> list[str]:
    """Return an example of a mobile number as dialled in its region and with country code."""
    example = phonenumbers.example_number_for_type(region, PhoneNumberType.MOBILE)
    if example is None:
        return []
    national = phonenumbers.national_significant_number(example)
    prefix = phonenumbers.ndd_prefix_for_region(region, True) or ""
    return [national, prefix + national, f"{example.country_code}{national}", f"00{example.country_code}{national}"]


@pytest.mark.slow
@pytest.mark.parametrize("region", REGIONS)
def test_examples_with_any_digit_changed_added_or_removed_are_what_the_parser_says(region: str) -> None:
    for example in spellings(region):
        for at in range(len(example)):
            variants = [example[:at] + digit + example[at + 1 :] for digit in "0123456789"]
            for digits in (*variants, example[:at] + example[at + 1 :], example[:at] + "8" + example[at:]):
                assert agrees(digits, region, is_international=False)
                assert agrees(digits, region, is_international=True)


@given(st.text("0123456789", max_size=16), st.sampled_from([None, *REGIONS]), st.booleans())
def test_random_digits_are_what_the_parser_says(digits: str, region: str | None, is_international: bool) -> None:
    assert agrees(digits, region, is_international=is_international)


@pytest.mark.parametrize(
    ("digits", "region", "is_international"),
    [
        ("79123456789", None, True),
        ("89123456789", "RU", False),
        ("9123456789", "RU", False),
        ("491701234567", "RU", True),
    ],
)
def test_common_numbers_take_the_shortcut(digits: str, region: str | None, is_international: bool) -> None:
    found = parse_mobile_number(digits, region, is_international=is_international)

    assert found == parsed(digits, region, is_international=is_international) is not None


@pytest.mark.parametrize("digits", ["", "7", "0", "٧٩١٢٣٤٥٦٧٨٩", "999123456789"])
def test_other_digits_are_left_to_the_parser(digits: str) -> None:
    assert parse_mobile_number(digits, "RU", is_international=True) is None
    assert parse_mobile_number(digits, "RU", is_international=False) is None
