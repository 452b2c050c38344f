"""Parses request bodies strictly: one JSON object (RFC 8259, I-JSON of RFC 7493)."""

import json
import math
import re
from types import NoneType
from typing import Any

from project.domain.encodings import guess_encoding
from project.domain.errors import RefusalError
from project.domain.text import clean

BOM = "\ufeff"
_CLOSING_BRACKET = re.compile(r",?\s*[}\]]")
_QUOTES = "'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
"""Characters that people and programs write instead of the double quotes of JSON."""
_CAUSE_VARIANTS = (
    ("Expecting ',' delimiter", "comma"),
    ("Expecting ':' delimiter", "colon"),
    ("Invalid control character", "control"),
    ("Invalid \\", "backslash"),
    ("Unterminated string", "unclosed"),
    ("Extra data", "extra"),
)
"""Beginning of a message of Python's JSON parser -> variant of the error `malformed_json`."""
_LINE_VARIANTS = {"cut": "cut_line", "start": "start_of_line", "array": "array_on_line"}
"""Variant of an error in a body -> variant of the same error in a line of a bulk request."""
_JSON_TYPES = {NoneType: "null", bool: "boolean", int: "number", float: "number", str: "string", list: "array"}


def parse_object(body: bytes, *, has_content_length: bool = False) -> dict[str, Any]:
    """Parse an object. Raises RefusalError `malformed_json` or `body_not_object`.

    With `has_content_length`, the error for an incomplete body with non-ASCII characters says that Content-Length
    counts bytes, not letters. NaN, infinite numbers and repeated keys, which Python's parser accepts, are refused, too.
    """
    text = decode_body(body, has_content_length=has_content_length)
    if not text.strip():
        raise RefusalError("malformed_json", "empty")
    try:
        parsed = _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise syntax_error(text, error, has_content_length=has_content_length) from None
    except RecursionError:
        raise RefusalError("malformed_json", "too_deep") from None
    except ValueError:  # an integer of more than 4,300 digits (CVE-2020-10735)
        raise RefusalError("malformed_json", "number") from None
    if not isinstance(parsed, dict):
        kind = json_type(parsed)
        raise RefusalError("body_not_object", "scalar" if kind in ("boolean", "number") else kind)
    return parsed


def parse_line(line: bytes, number: int) -> dict[str, Any]:
    """Parse a line that contains one object. Raises RefusalError as parse_object() does.

    `number` is the line number for messages.
    """
    try:
        return parse_object(line)
    except RefusalError as refusal:
        variant, params = refusal.variant, refusal.params
        if variant == "extra":
            rest = line.decode("utf-8-sig")[int(params["column"]) - 1 :].strip()
            variant = "comma_between_lines" if rest == "," else "extra_on_line"
        elif variant in _LINE_VARIANTS:
            variant, params = _LINE_VARIANTS[variant], {"line": number}
        if "line" in params:
            params = params | {"line": number}
        raise RefusalError(refusal.code, variant, refusal.errors, **params) from None


def json_type(value: object) -> str:
    """Return the JSON type of a parsed value."""
    return _JSON_TYPES.get(type(value), "object")


def decode_body(body: bytes, *, has_content_length: bool) -> str:
    """Decode a body in UTF-8. Raises RefusalError, which names another encoding if possible.

    For `has_content_length`, see parse_object().
    """
    try:
        text = body.decode("utf-8-sig")  # Windows clients send a byte order mark
    except UnicodeDecodeError as error:
        if has_content_length and error.reason == "unexpected end of data":
            raise RefusalError("malformed_json", "miscounted") from None
    else:
        if "\0" not in text:  # UTF-16 of ASCII letters is UTF-8, too
            return text
    encoding = guess_encoding(body)
    if encoding is None:
        raise RefusalError("malformed_json", "not_utf8")
    raise RefusalError("malformed_json", "encoding", encoding=encoding)


def syntax_error(text: str, error: json.JSONDecodeError, *, has_content_length: bool = False) -> RefusalError:
    """Return the refusal for a syntax error, with the variant of its message, line and column."""
    variant, position = _find_variant(text, error, has_content_length=has_content_length), error.pos
    if variant == "trailing_comma":
        position = text.rindex(",", 0, position + 1)  # Python 3.13 reports the comma, earlier versions the bracket
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    return RefusalError("malformed_json", variant, line=line, column=column)


def _find_variant(text: str, error: json.JSONDecodeError, *, has_content_length: bool) -> str:
    """Return the variant of `malformed_json`, such as `cut` for a body that ends early."""
    if text.startswith(BOM):
        return "marks"
    is_end = error.pos >= len(text.rstrip())
    if text.endswith("}"):
        return "cut" if is_end else _find_cause(text, error)
    if is_end or error.msg.startswith("Unterminated string"):
        return "miscounted" if has_content_length and not text.isascii() else "cut"
    return _find_cause(text, error)


def _find_cause(text: str, error: json.JSONDecodeError) -> str:
    before, at = text[: error.pos].rstrip(), text[error.pos : error.pos + 1]
    if _CLOSING_BRACKET.match(text, error.pos) and (before.endswith(",") or at == ","):
        return "trailing_comma"
    for beginning, variant in _CAUSE_VARIANTS:
        if error.msg.startswith(beginning):
            return variant
    if not before:
        return "start"
    return "quotes" if at in _QUOTES or at.isalpha() else ""


def _reject_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise RefusalError("malformed_json", "repeated_key", key=clean(key, 40))
        result[key] = value
    return result


def _parse_finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise RefusalError("malformed_json", "number")
    return number


_decoder = json.JSONDecoder(
    object_pairs_hook=_reject_repeated_keys, parse_constant=_parse_finite, parse_float=_parse_finite
)
