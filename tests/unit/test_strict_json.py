"""The JSON parser: any body is an unambiguous object or a refusal."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from project.domain.errors import RefusalError
from project.domain.strict_json import parse_object

SCRAPS = st.lists(
    st.sampled_from(
        ["[" * 2000, '{"a":' * 2000, "9" * 4301, '{"a":', '"a":1,', '"a"', '"\\ud800"', '"\\u0000"', "null"]
    )
    | st.sampled_from([*'{}[],:"\\ é', "true", "1", "-", "1e400", "-1e400", "NaN", "Infinity"]),
    max_size=12,
).map(lambda parts: "".join(parts).encode())
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(body=st.binary(max_size=60) | SCRAPS)
@settings(deadline=None, max_examples=500)
def test_arbitrary_bytes_are_an_object_or_a_refusal(body: bytes) -> None:
    try:
        result: object = parse_object(body)
    except RefusalError as error:
        result = error.code

    assert isinstance(result, dict) or result in {"malformed_json", "body_not_object"}


@given(sent=st.dictionaries(st.text(), VALUES, max_size=5), ascii_only=st.booleans())
@settings(deadline=None)
def test_a_valid_object_is_parsed_unchanged(sent: dict[str, Any], ascii_only: bool) -> None:
    body = json.dumps(sent, ensure_ascii=ascii_only).encode()

    assert parse_object(body) == sent


@pytest.mark.parametrize(
    ("body", "code", "variant"),
    [
        (b"", "malformed_json", "empty"),
        (b"\xef\xbb\xbf \n", "malformed_json", "empty"),
        (b"{", "malformed_json", "cut"),
        (b"[" * 60_000, "malformed_json", "too_deep"),
        (b'{"a":' * 60_000, "malformed_json", "too_deep"),
        (b'{"a": NaN}', "malformed_json", "number"),
        (b'{"a": -Infinity}', "malformed_json", "number"),
        (b'{"a": -1e400}', "malformed_json", "number"),
        (b'{"a": ' + b"9" * 4301 + b"}", "malformed_json", "number"),
        (b'{"a": {"b": 1, "b": 1}}', "malformed_json", "repeated_key"),
        (b'{"\\u0061": 1, "a": 1}', "malformed_json", "repeated_key"),
        ('{"name": "Иван Ёжик"}'.encode("cp1251"), "malformed_json", "encoding"),
        (b"\xef\xbb\xbf" * 2 + b'{"a": 1}', "malformed_json", "marks"),
        (b'{"a": "\0"}', "malformed_json", "not_utf8"),
        (b'{"a": "b', "malformed_json", "cut"),
        (b'{"a": 1, ', "malformed_json", "cut"),
        (b'{"a": {"b": 1}', "malformed_json", "cut"),
        (b'{"a": "b}', "malformed_json", "unclosed"),
        (b'{"a": "b" "c": 1}', "malformed_json", "comma"),
        (b'{"a": "b"c"}', "malformed_json", "comma"),
        (b'{"a" "b"}', "malformed_json", "colon"),
        (b'{"a": "b",\n}', "malformed_json", "trailing_comma"),
        (b'{"a": ["b",]}', "malformed_json", "trailing_comma"),
        (b"{'a': 1}", "malformed_json", "quotes"),
        (b"{\"a\": 'b'}", "malformed_json", "quotes"),
        ("{“a”: 1}".encode(), "malformed_json", "quotes"),
        (b"{a: 1}", "malformed_json", "quotes"),
        (b'{"a": Ivan}', "malformed_json", "quotes"),
        (b'{"a": "b\nc"}', "malformed_json", "control"),
        (rb'{"a": "C:\Users"}', "malformed_json", "backslash"),
        (rb'{"a": "C:\users"}', "malformed_json", "backslash"),
        (b'{"a": 1}\n{"a": 2}', "malformed_json", "extra"),
        (b"name=Olga&username=olga", "malformed_json", "start"),
        (b" <user/>", "malformed_json", "start"),
        (b'{"a": }', "malformed_json", ""),
        (b'{"a": 1, // b\n"c": 2}', "malformed_json", ""),
        (b'{"a": "\xff\xfe\x81"}', "malformed_json", "not_utf8"),
        (b'{"a": "\xed\xa0\x80"}', "malformed_json", "not_utf8"),
        (b'{"a": "\x98\xc8"}', "malformed_json", "not_utf8"),
        ('{"name": "Иван"}'.encode("utf-16"), "malformed_json", "encoding"),
        ('{"name": "John"}'.encode("utf-16-le"), "malformed_json", "encoding"),
        (b"[]", "body_not_object", "array"),
        (b'"a"', "body_not_object", "string"),
        (b"null", "body_not_object", "null"),
        (b"true", "body_not_object", "scalar"),
        (b"-0", "body_not_object", "scalar"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_the_refusal_says_what_is_wrong(body: bytes, code: str, variant: str) -> None:
    with pytest.raises(RefusalError) as caught:
        parse_object(body)

    assert (caught.value.code, caught.value.variant) == (code, variant)


def test_a_syntax_error_is_reported_with_line_and_column() -> None:
    with pytest.raises(RefusalError) as caught:
        parse_object(b'{\n  "a": 1,\n  oops\n}')

    assert caught.value.params == {"line": 3, "column": 3}


def test_a_repeated_key_is_named_in_a_printable_form() -> None:
    with pytest.raises(RefusalError) as caught:
        parse_object(b'{"a\\ud800": 1, "a\\ud800": 2}')

    assert caught.value.params == {"key": "a\ufffd"}


TEXT = json.dumps({"name": "Иван Петров", "phone": "+7 999 123-45-67"}, ensure_ascii=False)


def test_a_body_whose_length_counts_letters_is_recognized_wherever_it_is_cut() -> None:
    for length in range(len(TEXT), len(TEXT.encode())):
        with pytest.raises(RefusalError) as caught:
            parse_object(TEXT.encode()[:length], has_content_length=True)

        assert caught.value.variant == "miscounted"


def test_a_body_of_ascii_letters_is_cut_for_another_reason() -> None:
    with pytest.raises(RefusalError) as caught:
        parse_object(b'{"name": "John', has_content_length=True)

    assert caught.value.variant == "cut"
