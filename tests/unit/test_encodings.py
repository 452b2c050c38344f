"""The encoding of a text that is not UTF-8: the right one is named, or none."""

import json
from collections import Counter
from itertools import product

import pytest

from docs.sample import FAMILIES, MEN
from project.domain.encodings import CYRILLIC_CODECS, guess_encoding

NAMES = [f"{first} {family}" for first, family in product(MEN, FAMILIES)]


def body(name: str) -> str:
    """Return a request with this name."""
    return json.dumps({"name": name, "username": "u1"}, ensure_ascii=False)


@pytest.mark.parametrize(("encoding", "codec"), CYRILLIC_CODECS.items())
def test_no_name_gives_a_wrong_encoding_and_nearly_all_the_right_one(encoding: str, codec: str) -> None:
    found = Counter(guess_encoding(body(name).encode(codec)) for name in NAMES)

    assert found.keys() <= {encoding, None}
    assert found[encoding] > 0.9 * len(NAMES)


@pytest.mark.parametrize(
    "name", ["«Ромашка» Иван", "Иван №1 – сын", "Сергій Їжак", "ИВАНОВ ИВАН", "Алесь Ўладзіміравіч"]
)
def test_windows_1251_is_recognized_with_punctuation_and_letters_of_neighbours(name: str) -> None:
    assert guess_encoding(body(name).encode("cp1251")) == "windows-1251"


@pytest.mark.parametrize(
    ("codec", "encoding"),
    [
        *((f"utf-16{order}", "UTF-16") for order in ("", "-le", "-be")),
        *((f"utf-32{order}", "UTF-32") for order in ("", "-le", "-be")),
    ],
)
@pytest.mark.parametrize("name", ["Иван", "John", "山田"])
def test_utf_16_and_utf_32_are_recognized_with_and_without_a_mark(name: str, codec: str, encoding: str) -> None:
    assert guess_encoding(body(name).encode(codec)) == encoding


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("José", "latin-1"),
        ("Müller Straße", "cp1252"),
        ("Łódź Żółć", "cp1250"),
        ("Αθήνα Ελλάδα", "cp1253"),
        ("山田太郎", "gbk"),
        ("山田太郎", "shift_jis"),
        ("山田太郎", "euc_jp"),
        ("Я", "cp1251"),
        ("Ђорђе", "cp1251"),
    ],
)
def test_an_unclear_encoding_is_not_named(name: str, codec: str) -> None:
    assert guess_encoding(body(name).encode(codec)) is None


@pytest.mark.parametrize("text", [b"\0", b"\0\0\0", b'{"a": "\0"}', b"\xff\xfe", b"\xff\xfe\0", b"\xff", b"\x98\xc8"])
def test_damaged_text_has_no_encoding(text: bytes) -> None:
    assert guess_encoding(text) in {None, "UTF-16"}
