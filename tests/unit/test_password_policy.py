"""The rules for passwords that users choose."""

from datetime import UTC, datetime

import pytest

from project.domain.attempts import new_id
from project.domain.password_policy import WeakPasswordError, check_password
from project.domain.registration import User

ANNA = User(
    id=new_id(datetime(2026, 11, 23, tzinfo=UTC)),
    name="Анна Соколова",
    username="a.sokolova",
    phone="+79125550141",
    email="anna.sok@example.org",
    birth_date=None,
    created_at=datetime(2026, 11, 23, tzinfo=UTC),
)


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "лиловый утюг считает облака",
        "kotiki-lyubyat-moloko",
        "xqrpc-pyvma-5u696-476a8-jg54tq",
        "ключ 🗝️ лежит под ковриком 7",
        "9f2kq" * 3 + "vbm1x7z",
        "long " * 3 + "enough to be of the longest kind, " * 3,
    ],
)
def test_long_and_unusual_passwords_are_accepted(password: str) -> None:
    check_password(password, ANNA)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "short"),
        ("kQ7#vbm1x7zP2w", "short"),
        ("é" * 14, "short"),
        ("kotiki-lyubyat-moloko " * 6, "long"),
        ("my login is a.sokolova!", "own"),
        ("MY LOGIN IS A.SOKOLOVA!", "own"),
        ("anna.sok likes her cats", "own"),
        ("call me: 9125550141 now", "own"),
        ("passwordpassword", "common"),
        ("P@ssw0rdP@ssw0rd", "common"),
        ("123456789012345", "common"),
        ("qwertyuiopasdfgh", "common"),
        ("1qaz2wsx3edc4rfv", "common"),
        ("aaaaaaaaaaaaaaaa", "common"),
        ("abcabcabcabcabcabc", "common"),
        ("iloveyouiloveyou", "common"),
        ("йцукенгшщзхъфыва", "common"),
        ("парольпарольпароль", "common"),
        ("gfhjkmgfhjkm1234", "common"),
        ("Соколова Соколова", "common"),
        ("ab" * 60, "common"),
    ],
)
def test_short_common_and_guessable_passwords_are_rejected(password: str, reason: str) -> None:
    with pytest.raises(WeakPasswordError) as caught:
        check_password(password, ANNA)

    assert caught.value.reason == reason


def test_passwords_have_15_to_128_characters() -> None:
    long = "лиловый утюг считает облака, " * 5

    check_password("kQ7#vbm1x7zP2wL", ANNA)
    check_password(long[:128], ANNA)
    with pytest.raises(WeakPasswordError, match="long"):
        check_password(long[:129], ANNA)
