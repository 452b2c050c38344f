"""Passwords: issued ones can be derived again, stored ones cannot be read.

A failed check never reveals why.
"""

import math
from collections import Counter
from typing import Literal

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type
from hypothesis import example, given, settings
from hypothesis import strategies as st

from project.domain import passwords as module
from project.domain.passwords import (
    ALPHABET,
    MAX_LENGTH,
    SYMBOL_COUNT,
    Passwords,
    Secret,
    hash_idempotency_key,
    new_idempotency_key,
)

OLD, NEW = Secret(b"old" * 11), Secret(b"new" * 11)
PASSWORDS = Passwords((NEW,))
KEY = "0f8fad5b-d9cb-469f-a165-70867728950e"
MANY = 10_000


@pytest.fixture
def slow_checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes of all slow checks since the start of the test."""
    checked: list[str] = []

    class Spy(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - argon2's name
            checked.append(str(hash))
            return super().verify(hash, password)

    monkeypatch.setattr(module, "_argon2", Spy(time_cost=1, memory_cost=8, parallelism=1))
    return checked


def test_ten_thousand_passwords_have_130_bits_each_and_are_distinct() -> None:
    issued = [PASSWORDS.derive(f"key {number}", "ivan") for number in range(MANY)]

    letters = [password.replace("-", "") for password in issued]
    assert SYMBOL_COUNT * math.log2(len(ALPHABET)) >= 128
    assert {len(password) for password in letters} == {SYMBOL_COUNT}
    assert len(set(letters)) == MANY
    for index in range(SYMBOL_COUNT):
        counted = Counter(password[index] for password in letters)
        assert set(counted) == set(ALPHABET)
        assert max(counted.values()) < 1.5 * MANY / len(ALPHABET)


def test_a_password_consists_of_groups_of_unambiguous_characters() -> None:
    password = PASSWORDS.derive(KEY, "ivan")

    assert [len(group) for group in password.split("-")] == [5, 5, 5, 5, 6]
    assert len(set(ALPHABET)) == 32
    assert not set("lo01LO") & set(ALPHABET)


def test_the_same_key_and_username_give_the_same_password_in_every_process() -> None:
    password = Passwords((NEW,)).derive(KEY, "ivan")

    assert password == Passwords((NEW, OLD)).derive(KEY, "ivan") == "3dap8-uqvpr-4s8im-859rw-vw6jks"


@pytest.mark.parametrize(
    ("secret", "key", "username"),
    [(OLD, KEY, "ivan"), (NEW, KEY[:-1], "ivan"), (NEW, KEY, "anna"), (NEW, KEY + "i", "van"), (NEW, "ivan", KEY)],
)
def test_another_secret_key_or_username_gives_another_password(secret: Secret, key: str, username: str) -> None:
    password = Passwords((secret,)).derive(key, username)

    assert password != PASSWORDS.derive(KEY, "ivan")


def test_after_a_rotation_old_passwords_still_verify_and_can_be_derived_again() -> None:
    before, after = Passwords((OLD,)), Passwords((NEW, OLD))
    password = before.derive(KEY, "ivan")
    stored = before.hash_generated(password)

    assert after.verify(password, stored)
    assert after.derive(KEY, "ivan", before.kid) == password
    assert after.derive(KEY, "ivan") != password
    assert after.kid == NEW.kid != before.kid


def test_a_removed_secret_verifies_and_derives_nothing() -> None:
    before, after = Passwords((OLD,)), Passwords((NEW,))
    stored = before.hash_generated("password")

    assert not after.verify("password", stored)
    with pytest.raises(KeyError):
        after.derive(KEY, "ivan", OLD.kid)


def test_the_representation_shows_no_secret() -> None:
    shown = repr(Passwords((NEW,)))

    assert "new" not in shown
    assert "decoys" not in shown


@pytest.mark.parametrize("scheme", ["hmac-sha256", "argon2id"])
def test_every_scheme_verifies_only_its_password_and_stores_it_unreadably(scheme: str) -> None:
    passwords = Passwords((NEW,), scheme)
    password = passwords.derive(KEY, "ivan")

    stored, again = passwords.hash_generated(password), passwords.hash_generated(password)

    assert stored.startswith(f"{scheme}$")
    assert stored != again
    assert password not in stored
    assert [passwords.verify(text, stored) for text in (password, password[:-1], "")] == [True, False, False]


@pytest.mark.usefixtures("real_argon2")
def test_a_chosen_password_is_hashed_with_the_argon2_parameters_of_owasp() -> None:
    stored = PASSWORDS.hash_chosen("correct horse battery staple")

    parameters = extract_parameters("$" + stored)
    assert (parameters.type, parameters.memory_cost) == (Type.ID, 19 * 1024)
    assert (parameters.time_cost, parameters.parallelism) == (2, 1)


def test_each_scheme_verifies_hashes_of_the_other() -> None:
    slow, fast = Passwords((NEW,), "argon2id"), Passwords((NEW,))

    assert fast.verify("password", slow.hash_generated("password"))
    assert slow.verify("password", fast.hash_generated("password"))


@given(
    password=st.text(st.characters(exclude_categories=()), max_size=20),
    stored=st.builds(
        "{}{}".format,
        st.sampled_from(
            ["", "hmac-sha256", "hmac-sha256$", f"hmac-sha256${NEW.kid}$YQ==$", "argon2id", "argon2id$v=19$m="]
        ),
        st.text(st.characters(exclude_categories=()), max_size=20),
    ),
)
@example(password="password", stored=f"hmac-sha256${NEW.kid}$YQ==$é")
@example(password="password", stored="argon2id$v=19$m=8,t=1,p=1$é$é")
@example(password="\ud800", stored=PASSWORDS.decoys[0])
@example(password="\ud800", stored=PASSWORDS.decoys[1])
@settings(deadline=None)
def test_malformed_passwords_and_hashes_never_verify_and_raise_nothing(password: str, stored: str) -> None:
    assert PASSWORDS.verify(password, stored) is False


@pytest.mark.parametrize("scheme", ["hmac-sha256", "argon2id"])
def test_a_password_over_the_length_limit_is_not_hashed(scheme: str, slow_checks: list[str]) -> None:
    passwords = Passwords((NEW,), scheme)
    longest, longer = "x" * MAX_LENGTH, "x" * (MAX_LENGTH + 1)
    stored, too_long = passwords.hash_generated(longest), passwords.hash_generated(longer)

    assert passwords.verify(longest, stored)
    slow_checks.clear()
    assert not passwords.verify(longer, too_long)
    assert slow_checks == []


@pytest.mark.parametrize(
    "schemes", [[], ["fast"], ["slow"], ["fast", "fast"], ["fast", "slow"], ["slow", "fast"]], ids=str
)
def test_a_wrong_password_costs_one_slow_check_for_every_account(slow_checks: list[str], schemes: list[str]) -> None:
    passwords = Passwords((NEW,))
    hashes = [
        passwords.hash_chosen("right") if scheme == "slow" else passwords.hash_generated("right") for scheme in schemes
    ]

    match = passwords.find_matching_hash("wrong", hashes)

    assert match is None
    assert len(slow_checks) == 1


def test_the_hash_that_matches_a_password_is_found_among_several() -> None:
    hashes = [PASSWORDS.hash_generated("one"), PASSWORDS.hash_generated("two"), "garbage"]

    indexes = [PASSWORDS.find_matching_hash(password, hashes) for password in ("one", "two", "three")]

    assert indexes == [0, 1, None]


def test_generated_keys_are_unique_and_hashed_to_32_bytes() -> None:
    keys = {new_idempotency_key() for _ in range(100)}

    assert len(keys) == 100
    assert all(22 <= len(key) <= 255 and key.isascii() for key in keys)
    assert {len(hash_idempotency_key(key)) for key in keys} == {32}
    assert len({hash_idempotency_key(key) for key in keys}) == 100
