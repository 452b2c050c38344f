"""Masks: no contact survives them, and masking twice changes nothing."""

import re

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from project.domain.masking import (
    mask,
    mask_email,
    mask_field,
    mask_fields,
    mask_name,
    mask_phone,
    mask_request_id,
    mask_user_agent,
    mask_valid_phone,
)
from project.domain.records import AttemptRecord
from tests.functional.attempts import ago, record
from tests.unit.test_rules import NUMBERS, TEXTS, no_deadline

NOISE = st.text("aя 0+-().,:;<>@\"'\u200b٣²•", max_size=12)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("+79991234567", "+7 999 •••-••-67"),
        ("8 (912) 555-01-41", "8 (912) •••-••-41"),
        ("8\u00a0(912)\u00a0555-01-41", "8 (912) •••-••-41"),
        ("\u202a+7\u2009912\u202f5550141\u202c", "+7 912 •••••41"),
        ("+79125550141.0", "+7 912 •••-••-41"),
        ("79125550141.0", "7912•••••41"),
        ("89125550141, 89125550142", "•••••••••••, •••••••••42"),
        ("89125550141/89125550142", "•••••••••••/•••••••••42"),
        ("тел. 89125550141 моб. 89125550142", "···. ••••••••••• ···. •••••••••42"),
        ("0049 170 1234567", "0049 170 •••••67"),
        ("tel:+7 912 555-01-41", "+7 912 •••-••-41"),
        ("٨ ٩١٢ ٥٥٥ ٠١ ٤١", "٨ ٩١٢ ••• •• ٤١"),
        ("+12025550123", "+1 202-•••-••23"),
        ("+442079460958", "+44 20 •••• ••58"),
        ("+8613912345678", "+86 139 •••• ••78"),
        ("+6591234567", "+65 9••• ••67"),
        ("+6834000", "+••• ••00"),
        ("+7 999 123-45-6", "+• ••• •••-•5-6"),
        ("9991234567890123", "••••••••••••••23"),
        ("٨٩١٢٥٥٥٠١٤١٩٩", "•••••••••••٩٩"),
        ("8 912 555-01-41, 8 912 555-01-42", "• ••• •••-••-••, • ••• •••-••-42"),
        ("доб. 8 912 555-01-41", "···. • ••• •••-••-41"),
        ("112", "•12"),
        ("(number)", "(······)"),
        ("anna@example.org", "a•••@example.org"),
        ("anna@example.org 8 912 555-01-41", "a•••@example.org • ••• •••-••-41"),
        ("8 912 555-01-41 Анна", "• ••• •••-••-41 ····"),
        ("no number", "·· ······"),
    ],
)
def test_a_phone_is_masked_in_its_own_notation(text: str, masked: str) -> None:
    assert mask_phone(text, "RU") == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("anna@example.org", "a•••@example.org"),
        ("a@example.org", "•••@example.org"),
        (" Anna@Example.org ", "A•••@Example.org"),
        ("anna.sokolova", "a•••"),
        ("", "•••"),
        ("one@two@example.org", "o•••@example.org"),
        ("anna sokolova@example.org", "a•••@example.org"),
        ("+79125550141@example.org", "+•••@example.org"),
        ("anna@example.org, +7 912 555-01-41", "a•••@example.org, +• ••• •••-••-41"),
        ("anna＠example.org", "a•••@example.org"),
        ("8 912 555-01-41", "8•••"),
    ],
)
def test_an_email_is_masked_before_its_domain(text: str, masked: str) -> None:
    assert mask_email(text) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("petrov.ivan", "petrov.ivan"),
        ("Иван Петров", "Иван Петров"),
        ("user123456", "user123456"),
        ("user1234567", "user•••••67"),
        ("1 2 3 4 5 6 7", "• • • • • 6 7"),
        ("+79125550141", "+7912•••••41"),
        ("89125550141", "•••••••••41"),
        ("Иван, тел. +7 (912) 555-01-41", "Иван, тел. +• (•••) •••-••-41"),
        ("Иван ٨٩١٢٥٥٥٠١٤١", "Иван •••••••••٤١"),
        ("anna@example.org", "a•••@example.org"),
        ("mailto:anna@example.org", "mailto:a•••@example.org"),
        ("Anna <anna@example.org>", "Anna <a•••@example.org>"),
        ("a.b@x.ru,c.d@y.ru;e.f@z.ru", "a•••@x.ru,c•••@y.ru;e•••@z.ru"),
        ("anna @ example.org", "a•••@example.org"),
        ("anna﹫example.org", "a•••@example.org"),
        ("anna@79125550141.ru", "a•••@•••••••••41.ru"),
        ("@petrov", "@petrov"),
        ("①②③④⑤⑥⑦", "•••••⑥⑦"),
    ],
)
def test_contacts_in_any_text_are_masked(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Иван Петров", "Иван П."),
        ("Иван", "Иван"),
        ("", ""),
        ("  Анна   Мария  ван дер Берг ", "Анна М. в. д. Б."),
        ("Zoë O'Brien-Łuk", "Zoë O."),
        ("Иван П.", "Иван П."),
        ("anna@example.org", "a•••@example.org"),
        ("Иван +79125550141", "Иван +."),
        ("89125550141 Иван", "•••••••••41 И."),
    ],
)
def test_a_short_name_is_the_first_word_and_initials(name: str, short: str) -> None:
    assert mask_name(name) == short


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Mozilla/5.0 (X11; rv:128.0) Gecko/20100101 Firefox/128.0", None),
        ("curl/8.5.0", None),
        ("bot/1.0 (+https://example.org; anna@example.org)", "bot/1.0 (+https://example.org; a•••@example.org)"),
        ("bot/1.0 +7 912 555-01-41", "bot/1.0 +7 912 •••-••-41"),
        ("bot/1.0; 89125550141", "bot/1.0; •••••••••41"),
    ],
)
def test_contacts_in_the_name_of_a_program_are_masked(text: str, masked: str | None) -> None:
    assert mask_user_agent(text) == (masked or text)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("0190b0e5-0000-7000-8000-000000000000", None),
        ("order-17", None),
        ("1764513600000", None),
        ("4bf92f3577b34da6a3ce929d0e0e4736", None),
        ("+79125550141", "+7912•••••41"),
        ("89125550141", "8912•••••41"),
        ("79125550141", "7912•••••41"),
        ("order+79125550141", "order+7912•••••41"),
        ("anna@example.org", "a•••@example.org"),
    ],
)
def test_contacts_in_a_request_id_are_masked(text: str, masked: str | None) -> None:
    assert mask_request_id(text) == (masked or text)


@pytest.mark.parametrize("field", ["phone", "email"])
@pytest.mark.parametrize("text", ["(null)", "(number)", "(array)", "(object)", "(boolean)"])
def test_the_type_of_a_value_that_was_no_text_is_shown(field: str, text: str) -> None:
    assert mask_field(field, text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [("1990-12-31", None), ("31.12.1990", None), ("8912.555.01.41", "••••.•••.••.41"), ("31.13.1990", "••.••.••90")],
)
def test_a_date_of_birth_is_no_phone_number(text: str, masked: str | None) -> None:
    assert mask_field("birth_date", text) == (masked or text)


def test_names_of_unknown_fields_are_masked() -> None:
    sent = {"name": "Anna", "anna@example.org": "•••", "+79125550141": "•••"}

    assert mask_fields(sent) == {"name": "Anna", "a•••@example.org": "•••", "+7912•••••41": "•••"}


def test_a_record_for_the_disk_has_no_contacts() -> None:
    before = record(ago(), username="anna@example.org", name="Anna 89125550141", status=422, code="blank")

    masked = AttemptRecord.from_line(before.to_masked_line())

    assert masked.attempt.sent == {"name": "Anna •••••••••41", "username": "a•••@example.org"}
    assert masked.to_masked_line() == before.to_masked_line()
    assert before.attempt.sent["username"] == "anna@example.org"


@pytest.mark.parametrize("number", NUMBERS, ids=str)
def test_at_least_five_digits_of_every_countrys_numbers_are_hidden(number: phonenumbers.PhoneNumber) -> None:
    text = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)

    masked = mask_valid_phone(text)

    shown = re.sub(r"[^\d•]", "", masked)
    assert len(shown) == len(text) - 1
    assert re.fullmatch(shown.replace("•", r"\d"), text[1:])
    assert re.fullmatch(r"\d*•{5,}\d\d", shown)
    assert mask_phone(text) == masked
    assert mask(text) == re.sub(r"[^+\d•]", "", masked)


@given(text=TEXTS)
@no_deadline
def test_a_masked_email_shows_at_most_one_letter_of_the_local_part(text: str) -> None:
    masked = mask_email(text)

    shown, at, domain = masked.rpartition("@")
    assert re.fullmatch(".?•••", shown if at else domain, re.DOTALL)


@given(before=NOISE, text=TEXTS, after=NOISE, region=st.sampled_from(["RU", None]))
@example("", "+12025550123", "", None)
@example("", "+290 45678", "", None)
@example("0@ ", "0@ 0@", "0@", "RU")
@no_deadline
def test_masking_twice_changes_nothing_or_hides_a_rare_number_completely(
    before: str, text: str, after: str, region: str | None
) -> None:
    text = f"{before}{text}{after}"

    for function in (mask, mask_email, mask_user_agent, mask_request_id, lambda t: mask_phone(t, region)):
        masked = function(text)
        again = function(masked)
        if again != masked:
            assert len(again) == len(masked)
            assert all(new in {old, "•"} for old, new in zip(masked, again, strict=True)), function
            assert phonenumbers.is_valid_number(phonenumbers.parse(text, region)), function
            assert function(again) == again, function


@given(
    before=NOISE,
    after=NOISE,
    contact=st.sampled_from(["8 912 555-01-41", "+79125550141", "8(912)5550141", "٨٩١٢٥٥٥٠١٤١"]),
)
@no_deadline
def test_no_phone_number_survives_in_any_surroundings(before: str, after: str, contact: str) -> None:
    text = f"{before}{contact}{after}"
    digits = re.sub(r"\D", "", contact)

    for masked in (mask(text), mask_phone(text, "RU"), mask_name(text)):
        assert digits not in re.sub(r"\D", "", masked)
        assert sum(map(str.isdigit, masked)) <= 8


@given(before=NOISE, after=NOISE)
@no_deadline
def test_no_address_survives_in_any_surroundings(before: str, after: str) -> None:
    text = f"{before}anna.sokolova@example.org{after}"

    for masked in (mask(text), mask_phone(text, "RU"), mask_email(text), mask_user_agent(text), mask_request_id(text)):
        assert "anna.sokolova" not in masked
        assert "sokolova" not in masked
