"""The rules of the five fields: any text becomes a valid value or a RuleError."""

import re
import sys
import unicodedata
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any

import idna
import phonenumbers
import pytest
from email_validator import validate_email
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from project.contract.schemas import user_add_schema
from project.domain import usernames
from project.domain.dates import parse_birth_date
from project.domain.emails import fold_email, normalize_email
from project.domain.errors import RuleError
from project.domain.logins import check_contact_as_username
from project.domain.masking import mask_phone
from project.domain.phones import format_phone, normalize_phone
from project.domain.registration import NewUser
from project.domain.text import _is_forbidden, check_characters, clean, normalize_name

TODAY = date(2026, 11, 23)
Rule = Callable[[str], Any]
RULES: dict[str, Rule] = {
    "name": partial(normalize_name, limit=300),
    "username": usernames.check_username,
    "phone": partial(normalize_phone, region="RU"),
    "email": normalize_email,
    "birth_date": lambda text: parse_birth_date(text, TODAY),
}
ANYTHING = st.text(st.characters(exclude_categories=()), max_size=40)
"""Text with everything that Python can hold: lone surrogates, NUL, marks, unassigned code points."""
LATIN, CYRILLIC = "aAyYZßſİıǅﬃﬀKªé\u0301\u0345", "аеЖжЁё\u0301"
USERNAMES = st.text(LATIN + "019@.+-_", max_size=20) | st.text(CYRILLIC + "019@.+-_", max_size=20)
LOOKALIKES = st.text(LATIN + CYRILLIC + " 09@.+-()/'\"<>=%x:①²½٣９ʹ΄\u200d\u00a0\u3000＠．＋", max_size=24)
NUMBERS = [
    number for region in sorted(phonenumbers.SUPPORTED_REGIONS) if (number := phonenumbers.example_number(region))
]
PHONES = st.builds(
    lambda number, form, change: change(phonenumbers.format_number(number, form)),
    st.sampled_from(NUMBERS),
    st.sampled_from([0, 1, 3]),  # E.164, international, RFC 3966
    st.sampled_from([str, lambda text: text + "1", lambda text: f" {text}\n", lambda text: text[:-1]]),
)
EMAILS = st.builds(
    "{}@{}".format,
    st.text("aZ9+-_éЖſİß\u0345", min_size=1, max_size=20),
    st.sampled_from(["Example.ORG", "пример.РФ", "xn--e1afmkfd.xn--p1ai", "straße.de"]),
)
DATES = st.dates().map(str) | st.builds("{:02}.{:02}.{}".format, *[st.integers(0, 40)] * 2, st.integers(1800, 2100))
TEXTS = ANYTHING | LOOKALIKES | USERNAMES | PHONES | EMAILS | DATES
TYPICAL = {"name": LOOKALIKES, "username": USERNAMES, "phone": PHONES, "email": EMAILS}
no_deadline = settings(deadline=None)


def accepted(rule: Rule, text: str) -> Any:
    """Return the value of a text that the rule accepts; skip other examples."""
    try:
        return rule(text)
    except RuleError:
        assume(False)


@pytest.mark.parametrize("field", RULES)
@given(text=TEXTS)
@settings(deadline=None, max_examples=300)
def test_any_text_becomes_a_value_that_postgresql_can_store_or_a_rule_error(field: str, text: str) -> None:
    try:
        value = str(RULES[field](text))
    except RuleError:
        return

    assert value.encode()
    assert "\0" not in value


@pytest.mark.parametrize("field", TYPICAL)
@given(data=st.data())
@no_deadline
def test_a_rule_accepts_its_own_result_unchanged(field: str, data: st.DataObject) -> None:
    rule = RULES[field]
    value = accepted(rule, data.draw(TYPICAL[field]))

    assert rule(value) == value


@given(text=PHONES)
@no_deadline
def test_a_phone_is_normalized_to_e164(text: str) -> None:
    value = accepted(RULES["phone"], text)

    assert re.fullmatch(r"\+[1-9][0-9]{6,14}", value)


@given(number=st.sampled_from(NUMBERS), ending=st.integers(0, 99))
@no_deadline
def test_phones_are_grouped_as_phonenumbers_does(number: phonenumbers.PhoneNumber, ending: int) -> None:
    text = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    parsed = phonenumbers.parse(f"{text[:-2]}{ending:02}")

    grouped = format_phone(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))

    assert grouped == phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


@given(text=TEXTS)
@example("Ivan\u0345\u0301")
@no_deadline
def test_folding_a_username_is_idempotent(text: str) -> None:
    folded = usernames.fold_username(text)

    assert usernames.fold_username(folded) == folded


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@given(text=USERNAMES)
@no_deadline
def test_a_username_folds_to_the_same_text_in_every_unicode_normal_form(form: Any, text: str) -> None:
    username = accepted(usernames.check_username, text)

    assert usernames.fold_username(unicodedata.normalize(form, username)) == usernames.fold_username(username)


@given(text=ANYTHING, limit=st.integers(2, 50))
@no_deadline
def test_cleaned_text_is_one_short_line_that_can_be_stored(text: str, limit: int) -> None:
    cleaned = clean(text, limit)

    assert len(cleaned) <= limit
    assert len(cleaned.splitlines()) <= 1
    check_characters(cleaned)
    assert clean(cleaned, limit) == cleaned


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("name", "  Иван Петров ", "Иван Петров"),
        ("name", "e\u0301mile", "émile"),
        ("name", "علی\u200cرضا", "علی\u200cرضا"),
        ("name", "👩\u200d💻 Ольга", "👩\u200d💻 Ольга"),
        ("username", "Петров.Иван", "Петров.Иван"),
        ("username", "ivan+1@example.org", "ivan+1@example.org"),
        ("username", "123", "123"),
        ("username", " ivan ", "ivan"),
        ("username", "\u00a0ivan\u3000", "ivan"),
        ("username", "\tivan\r\n", "ivan"),
        ("username", "\ufeffivan\u200b", "ivan"),
        ("username", "İlham", "İlham"),
        ("username", "Əliyev", "Əliyev"),
        ("username", "Łukasz", "Łukasz"),
        ("username", "Ғани", "Ғани"),
        ("name", "\U0001fae8", "\U0001fae8"),
        ("name", "\u3164Иван\u2800", "Иван"),
        ("phone", "8 (999) 123-45-67", "+79991234567"),
        ("phone", "tel:+7-999-123-45-67", "+79991234567"),
        ("phone", "＋７ ９９９ １２３ ４５ ６７", "+79991234567"),
        ("phone", "+44 20 7946 0958", "+442079460958"),
        ("phone", "\u202a+79991234567\u202c", "+79991234567"),
        ("phone", "+7\u00ad999\u200b123\u206045\ufeff67", "+79991234567"),
        ("phone", "+7\u2000999\u200a123\u202f45\u205f67\u1680", "+79991234567"),
        ("phone", "+7\t999\n123 45 67", "+79991234567"),
        ("phone", "(+7) 999 123-45-67", "+79991234567"),
        ("phone", "+(7) 999 123-45-67", "+79991234567"),
        ("phone", "[8] 999 123-45-67", "+79991234567"),
        ("phone", "+7－999－123－45－67", "+79991234567"),
        ("phone", "'+79991234567", "+79991234567"),
        ("phone", "+358412345678.0", "+358412345678"),
        ("phone", "+43664123456.0", "+43664123456"),
        ("phone", "79163070001.0", "+79163070001"),
        ("phone", "79163070001,00", "+79163070001"),
        ("phone", "0049 170 1234567", "+491701234567"),
        ("phone", "00375291234567", "+375291234567"),
        ("phone", "8 10 375 29 123-45-67", "+375291234567"),
        ("phone", "+49 30 123456-0", "+49301234560"),
        ("phone", "+49 30/123456", "+4930123456"),
        ("phone", "+33.6.12.34.56.78", "+33612345678"),
        ("phone", "+48 (0) 22 512 34 56", "+48225123456"),
        ("phone", "+44 (0)20 7946 0958", "+442079460958"),
        ("phone", "0044 (0)20 7946 0958", "+442079460958"),
        ("phone", "+39 (0)6 1234 5678", "+390612345678"),
        ("phone", "+251 94 123 4567", "+251941234567"),
        ("phone", "٨٩١٢٣٤٥٦٧٨٩", "+79123456789"),
        ("email", " User@Example.COM ", "User@example.com"),
        ("email", "\u202aivan@mail.ru\u202c", "ivan@mail.ru"),
        ("email", "mailto:ivan@mail.ru", "ivan@mail.ru"),
        ("email", "ivan＠mail.ru", "ivan@mail.ru"),
        ("email", "ｉｖａｎ＠ｍａｉｌ．ｒｕ", "ivan@mail.ru"),
        ("email", "ivan@faß.de", "ivan@faß.de"),
        ("email", "o'brien@example.org", "o'brien@example.org"),
        ("email", "ivan@163.com", "ivan@163.com"),
        ("email", "사용자@한국.com", "사용자@한국.com"),
        ("email", "медведь@с-балалайкой.рф", "медведь@с-балалайкой.рф"),
        ("email", "info@xn--strae-oqa.de", "info@straße.de"),
        ("email", "ιωάννης@εεττ.gr", "ιωάννης@εεττ.gr"),
        ("email", "иван@mail.ru", "иван@mail.ru"),
        ("email", "info@почта.ru", "info@почта.ru"),
        ("email", "u@xn--e1afmkfd.xn--p1ai", "u@пример.рф"),
        ("birth_date", "1990-12-31", date(1990, 12, 31)),
        ("birth_date", " 31.12.1990 ", date(1990, 12, 31)),
        ("birth_date", "1900-01-01", date(1900, 1, 1)),
        ("birth_date", "1.2.1990", date(1990, 2, 1)),
        ("birth_date", "1990-12-31T00:00:00", date(1990, 12, 31)),
        ("birth_date", "1990-12-31T00:00:00.000Z", date(1990, 12, 31)),
        ("birth_date", "1990-12-31T00:00:00.0000000", date(1990, 12, 31)),
        ("birth_date", "1990-12-31 00:00", date(1990, 12, 31)),
        ("birth_date", "31.12.1990 0:00:00", date(1990, 12, 31)),
        ("birth_date", "\u200e31\u200e.\u200e12\u200e.\u200e1990", date(1990, 12, 31)),
        ("birth_date", "2026-11-23", TODAY),
    ],
)
def test_a_valid_value_is_normalized(field: str, text: str, value: object) -> None:
    assert RULES[field](text) == value


@pytest.mark.parametrize(
    ("one", "other"), [("İlham", "ilham"), ("İLHAM", "ilham"), ("I\u0307van", "ivan"), ("U1", "ｕ１")]
)
def test_two_spellings_of_a_username_are_one(one: str, other: str) -> None:
    assert usernames.fold_username(usernames.check_username(one)) == usernames.fold_username(
        usernames.check_username(other)
    )


CONTACTS = {"phone": "+79991234567", "email": "Ivan@mail.ru"}


@pytest.mark.parametrize(
    ("username", "own", "field"),
    [
        ("ivan@mail.ru", {}, "email"),
        ("IVAN＠mail.ru", {}, "email"),
        ("ivan@mail.ru", {"email": "anna@mail.ru"}, "email"),
        ("ivan@strasse.de", {"email": "ivan@straße.de"}, "email"),
        ("89991234567", {}, "phone"),
        ("+7-999-123-45-67", {"phone": "+79991234568"}, "phone"),
        ("８９９９１２３４５６７", {}, "phone"),
    ],
)
def test_a_username_that_reads_as_a_contact_of_another_is_refused(
    username: str, own: dict[str, str], field: str
) -> None:
    with pytest.raises(RuleError) as caught:
        check_contact_as_username(username, own.get("phone"), own.get("email"), "RU")

    assert (caught.value.code, caught.value.variant) == ("invalid_username", f"{field}_of_another")
    assert caught.value.params == {"field": field}


@pytest.mark.parametrize(
    ("username", "own"),
    [
        ("ivan@mail.ru", CONTACTS),
        ("IVAN@mail.ru", CONTACTS),
        ("8-999-123-45-67", CONTACTS),
        ("@ivan", {}),
        ("ivan@office", {}),
        ("2026", {}),
        ("1234567", {}),
    ],
)
def test_a_username_may_be_an_own_contact_or_no_contact(username: str, own: dict[str, str]) -> None:
    check_contact_as_username(username, own.get("phone"), own.get("email"), "RU")


@pytest.mark.parametrize("domain", ["local", "lan", "corp", "home", "internal", "intranet", "private", "home.arpa"])
def test_an_email_of_any_private_network_is_accepted(domain: str) -> None:
    for email in (f"ivan@mail.{domain}", f"o'brien@mail.{domain}"):
        assert normalize_email(email) == email


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ivan@Mail.RU", "ivan@mail.ru"),
        ("u@пример.рф", "U@xn--e1afmkfd.xn--p1ai"),
        ("straße@mail.ru", "STRASSE@mail.ru"),
        ("ﬁn@mail.ru", "fin@mail.ru"),
        ("e\u0301mile@mail.ru", "émile@mail.ru"),
    ],
)
def test_two_spellings_of_an_email_are_one(one: str, other: str) -> None:
    assert fold_email(normalize_email(one)) == fold_email(normalize_email(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ivan@straße.de", "ivan@strasse.de"),
        ("ivan@βόλος.com", "ivan@βόλοσ.com"),
        ("ivan+1@mail.ru", "ivan@mail.ru"),
    ],
)
def test_two_addresses_stay_two(one: str, other: str) -> None:
    assert fold_email(normalize_email(one)) != fold_email(normalize_email(other))


@pytest.mark.parametrize(
    ("ascii_domain", "spellings"),
    [
        ("xn--bcher-kva.de", ("bücher.de", "BÜCHER.de", "bu\u0308cher.de", "bücher\u3002de", "ｂücher．DE")),
        ("xn--fa-hia.de", ("faß.de", "FAß.DE", "FA\u1e9e.de")),
        ("xn--3xab.gr", ("σς.gr", "Σς.GR")),
        ("xn--e1afmkfd.xn--p1ai", ("пример.рф", "ПРИМЕР.РФ", "xn--e1afmkfd.рф", "пример.XN--P1AI")),
        ("strasse.de", ("STRASSE.de", "ｓtrasse.de")),
    ],
)
def test_every_spelling_of_a_domain_is_the_domain_of_its_a_label(ascii_domain: str, spellings: tuple[str, ...]) -> None:
    found = {
        fold_email(normalize_email(f"Ivan@{domain}"))
        for domain in (ascii_domain, ascii_domain.upper(), ascii_domain.title(), *spellings)
    }

    assert len(found) == 1
    assert idna.encode(found.pop().removeprefix("ivan@")).decode() == ascii_domain


@given(text=EMAILS | st.emails())
@no_deadline
def test_the_domain_of_the_unique_form_and_its_a_label_are_one_domain(text: str) -> None:
    email = accepted(normalize_email, text)
    local, _, domain = email.rpartition("@")

    assert fold_email(normalize_email(f"{local}@{idna.encode(domain).decode().upper()}")) == fold_email(email)


@pytest.mark.parametrize("email", ["ivan@пrимер.рф", "ivan@xn--r-jtbiqmk.xn--p1ai", "ivan@mail.ru.", "ivan@xn--a.de"])
def test_a_domain_that_is_no_name_or_mixes_scripts_is_refused_in_every_spelling(email: str) -> None:
    with pytest.raises(RuleError, match="invalid_email"):
        normalize_email(email)


@pytest.mark.parametrize("local", ["Һ1", "Ԁ1", "ᲂ1", "ᲃ1", "ŉ1", "ẚ1", "⁗1", "⁻1", "₋1", "︱1", "︲1", "﹘1"])
def test_a_local_part_whose_unique_form_would_be_refused_is_refused_as_written(local: str) -> None:
    with pytest.raises(RuleError):
        normalize_email(f"{local}@mail.ru")


@given(text=st.emails() | EMAILS | st.builds("{}@{}".format, LOOKALIKES, st.sampled_from(["mail.ru", "пример.рф"])))
@no_deadline
def test_the_unique_form_of_an_email_is_an_address_and_its_own_unique_form(text: str) -> None:
    folded = fold_email(accepted(normalize_email, text))

    assert normalize_email(folded) == folded
    assert fold_email(folded) == folded


@given(text=st.emails() | EMAILS)
@example("Postmaster@Example.ORG")
@example("a@xn--e1afmkfd.ru")
@example("a@ab--c.ru")
@no_deadline
def test_an_email_is_stored_as_the_validator_normalizes_it(text: str) -> None:
    email = accepted(normalize_email, text)

    assert email == validate_email(text.strip(), check_deliverability=False, strict=True).normalized


@pytest.mark.parametrize(
    ("field", "text", "code", "variant"),
    [
        ("name", " \u3000 ", "blank", ""),
        ("name", "\u200d", "blank", ""),
        ("name", "x" * 301, "too_long", ""),
        ("name", "a\ufdd0", "invalid_characters", ""),
        ("username", "\u0430dmin", "invalid_username", "cyrillic_letter"),
        ("username", "ольгa", "invalid_username", "latin_letter"),
        *(("name", blank, "blank", "") for blank in "\u3164\u2800\u115f\u1160\uffa0\ufffc\ufffd\U0001d159\U000e0100"),
        ("name", "\u3164 \u2800", "blank", ""),
        ("username", "\u3164", "blank", ""),
        ("username", "\u200b" * 15, "blank", ""),
        ("username", "ivan\u200bpetrov", "invalid_characters", ""),
        ("username", "山田", "invalid_username", "character"),
        ("username", "@.+-_", "invalid_username", "only_signs"),
        ("username", "ivan٣", "invalid_username", "character"),
        ("username", "iv an", "invalid_username", "blank"),
        ("username", "iv\u00a0an", "invalid_username", "blank"),
        ("username", "iv\u3164an", "invalid_username", "character"),
        ("username", "b\u1d0fss", "invalid_username", "character"),
        ("username", "\u0261oogle", "invalid_username", "character"),
        ("username", "\ua731ara", "invalid_username", "character"),
        ("username", "p\u0251ul", "invalid_username", "character"),
        ("username", "ivan!", "invalid_username", "character"),
        ("username", "ivan#1", "invalid_username", "character"),
        ("username", "x" * 151, "too_long", ""),
        ("phone", "", "invalid_phone", "too_short"),
        ("phone", "+7 999 123", "invalid_phone", "digits_missing"),
        ("phone", "+7 999 123-45-67-890-12", "invalid_phone", "digits_extra"),
        ("phone", "8 999 123", "invalid_phone", "too_short"),
        ("phone", "7 999 123", "invalid_phone", "too_short"),
        ("phone", "0049 170", "invalid_phone", "too_short"),
        ("phone", "+49 30", "invalid_phone", "too_short"),
        ("phone", "+380 501", "invalid_phone", "digits_missing"),
        ("phone", "9" * 65, "invalid_phone", "too_long"),
        ("phone", "=+79991234567", "invalid_phone", "characters"),
        ("phone", "+7 999 123-45-67 доб. 5", "invalid_phone", "extension"),
        ("phone", "+7 999 123-45-67,5", "invalid_phone", "extension"),
        ("phone", "+999 123 456 789", "invalid_phone", "unknown_country"),
        ("phone", "+7 000 000-00-00", "invalid_phone", ""),
        ("phone", "+7\0999", "invalid_characters", ""),
        *(("phone", "9" * length, "invalid_phone", "too_long") for length in (18, 20, 40, 64)),
        ("phone", "7.9991234567E10", "invalid_phone", "calculated"),
        ("phone", "7,99912E+10", "invalid_phone", "calculated"),
        ("phone", "79163070001.5", "invalid_phone", "calculated"),
        ("phone", "79163070001,5", "invalid_phone", "calculated"),
        ("phone", "79,163,070,001", "invalid_phone", "calculated"),
        ("phone", "+358 41 234 5678.0", "invalid_phone", "calculated"),
        ("phone", "+358 41 234 5678．0", "invalid_phone", "calculated"),
        ("phone", "89991234567, 89997654321", "invalid_phone", "several"),
        ("phone", "89991234567; 89997654321", "invalid_phone", "several"),
        ("phone", "89991234567/89997654321", "invalid_phone", "several"),
        ("phone", "89991234567 89997654321", "invalid_phone", "several"),
        ("phone", "+79991234567+79997654321", "invalid_phone", "several"),
        ("phone", "8 999 123-45-67 или 8 999 765-43-21", "invalid_phone", "several"),
        ("phone", "тел. 8 999 123-45-67 моб. 8 999 765-43-21", "invalid_phone", "several"),
        ("phone", "+49 30 123456/78", "invalid_phone", "several"),
        ("phone", "тел. 8 999 123-45-67", "invalid_phone", "characters"),
        ("phone", "8 999 123-45-67, Иван", "invalid_phone", "characters"),
        ("phone", "8 999 123-45-67 #5", "invalid_phone", "extension"),
        ("phone", "+16502530000x136", "invalid_phone", "extension"),
        ("phone", "+5493516315733 ext.", "invalid_phone", "extension"),
        ("phone", "4084568908#", "invalid_phone", "characters"),
        ("phone", "8 999 123-45-67 вн. 5", "invalid_phone", "extension"),
        ("phone", "375291234567", "invalid_phone", "without_plus"),
        ("phone", "491701234567", "invalid_phone", "without_plus"),
        ("phone", "+89991234567", "invalid_phone", "unknown_country"),
        ("email", "ivan", "invalid_email", "no_at"),
        ("email", "x" * 65 + "@example.org", "invalid_email", "long_local"),
        ("email", "ivan@example.invalid", "invalid_email", "special_domain"),
        ("email", "ivan@localhost", "invalid_email", "special_domain"),
        ("email", "ivan@test", "invalid_email", "special_domain"),
        ("email", "ivan@company.example", "invalid_email", "special_domain"),
        ("email", "ivan@1.in-addr.arpa", "invalid_email", "special_domain"),
        ("email", "ivan@@example.org", "invalid_email", "several"),
        ("email", "ivan@mail.ru, anna@mail.ru", "invalid_email", "several"),
        ("email", "Ivan <ivan@mail.ru>", "invalid_email", "display_name"),
        ("email", "iv an@mail.ru", "invalid_email", "blank"),
        ("email", "ivan.@mail.ru", "invalid_email", "local"),
        ("email", '"ivan"@mail.ru', "invalid_email", "local"),
        ("email", "@mail.ru", "invalid_email", "local"),
        ("email", "ivan@", "invalid_email", "domain"),
        ("email", "ivan@company", "invalid_email", "domain"),
        ("email", "ivan@mail..ru", "invalid_email", "domain"),
        ("email", "ivan@[127.0.0.1]", "invalid_email", "domain"),
        ("email", "iv\u0430n@mail.ru", "invalid_email", "keyboard_layout"),
        ("email", "ivan@m\u0430il.ru", "invalid_email", "keyboard_layout"),
        ("email", "iv\u03b1n@mail.ru", "invalid_email", "keyboard_layout"),
        ("email", "\u0441\u043e\u0440\u0443@mail.ru", "invalid_email", "keyboard_layout"),
        ("email", "victim＠gmail.com@evil.example.org", "invalid_characters", ""),
        ("email", "ﷺ@example.org", "invalid_characters", ""),
        ("email", "ivan․petrov@mail.ru", "invalid_characters", ""),
        ("email", "ivan\u3164@mail.ru", "invalid_characters", ""),
        ("email", "o\u2019brien@example.org", "invalid_characters", ""),
        ("email", "ivan\u2013petrov@example.org", "invalid_characters", ""),
        ("email", "cs_test@cs_test.com", "invalid_email", "domain"),
        ("email", "x@" + "y" * 260, "too_long", ""),
        ("birth_date", "31/12/1990", "invalid_date", "slashes"),
        ("birth_date", "1990/12/31", "invalid_date", "slashes"),
        ("birth_date", "12/31/1990 0:00:00", "invalid_date", "slashes"),
        ("birth_date", "31.12.90", "invalid_date", "short_year"),
        ("birth_date", "31-12-90", "invalid_date", "short_year"),
        ("birth_date", "1990-12-31T21:00:00.000Z", "invalid_date", "time"),
        ("birth_date", "1990-12-31T00:00:00+03:00", "invalid_date", "time"),
        ("birth_date", "1999-12-31T23:00:00.000Z", "invalid_date", "time"),
        ("birth_date", "31.12.1990 12:30", "invalid_date", "time"),
        ("birth_date", "31.12.1990 г.", "invalid_date", ""),
        ("birth_date", "31 декабря 1990", "invalid_date", ""),
        ("birth_date", "33238", "invalid_date", ""),
        ("birth_date", "١٩٩٠-12-31", "invalid_date", ""),
        ("birth_date", "2025-02-29", "invalid_date", "no_such_day"),
        ("birth_date", "0000-01-01", "invalid_date", "no_such_day"),
        ("birth_date", "2026-11-24", "date_out_of_range", "future"),
        ("birth_date", "31.12.1899", "date_out_of_range", "past"),
    ],
)
def test_an_invalid_value_is_reported_with_its_code_and_variant(field: str, text: str, code: str, variant: str) -> None:
    with pytest.raises(RuleError) as caught:
        RULES[field](text)

    assert (caught.value.code, caught.value.variant) == (code, variant)


def test_many_digits_after_a_date_are_taken_for_a_time_whatever_follows_them() -> None:
    """A pattern that ends at the line break would be tried from every digit."""
    with pytest.raises(RuleError) as caught:
        RULES["birth_date"]("1990-12-31 " + "1" * 16_000 + "\nx")

    assert (caught.value.code, caught.value.variant) == ("invalid_date", "time")


def test_a_forbidden_character_is_reported_with_its_position_and_code_point() -> None:
    with pytest.raises(RuleError) as caught:
        check_characters("ab\u202ec")

    assert caught.value.params == {"position": 3, "codepoint": "U+202E"}


@pytest.mark.parametrize(
    ("text", "code", "digits", "needed"),
    [
        ("916111000", 7, 9, 10),
        ("+7 916 111-00-044", 7, 11, 10),
        ("8 10 375 29 123-45", 375, 7, 9),
        ("+1 202 555", 1, 6, 10),
    ],
)
def test_a_wrong_length_is_reported_with_the_numbers_of_digits_where_they_are_clear(
    text: str, code: int, digits: int, needed: int
) -> None:
    with pytest.raises(RuleError) as caught:
        normalize_phone(text, "RU")

    assert caught.value.params == {"country_code": code, "digits": digits, "needed": needed}


@pytest.mark.parametrize(
    ("username", "position", "character"),
    [("ольгa", 5, "a"), ("olgа", 4, "а"), ("Aнна2", 1, "A"), ("ab.аб", 4, "а")],
)
def test_a_letter_of_another_alphabet_is_reported_with_its_position(
    username: str, position: int, character: str
) -> None:
    with pytest.raises(RuleError) as caught:
        usernames.check_username(username)

    assert caught.value.params == {"position": position, "character": character}


def test_a_national_number_belongs_to_the_configured_region() -> None:
    number = normalize_phone("020 7946 0958", "GB")

    assert number == "+442079460958"


def test_no_forbidden_character_is_printable() -> None:
    """The fast path for printable texts depends on it.

    It skips the check of each character.
    """
    forbidden = [chr(code) for code in range(sys.maxunicode + 1) if _is_forbidden(chr(code))]

    assert len(forbidden) > 2000
    assert not [character for character in forbidden if character.isprintable()]


def test_the_fingerprint_of_a_body_is_that_of_former_versions_whatever_the_case_of_the_email() -> None:
    anna = NewUser(
        name="Анна Соколова",
        username="a.sokolova",
        phone="+79125550141",
        email="Anna@пример.рф",
        birth_date=date(1990, 12, 31),
    )

    assert anna.fingerprint().hex() == "63a268e917940a193984bd3299d1a9fda822037dc8a38b2704968a6f26565a96"


def test_a_phone_is_parsed_once_for_its_mask_and_its_validation() -> None:
    normalize_phone.cache_clear()
    mask_phone("8 (912) 555-01-77", "RU")

    user_add_schema("RU").load({"name": "N", "username": "n", "phone": "8 (912) 555-01-77"})

    assert normalize_phone.cache_info().misses == 1
