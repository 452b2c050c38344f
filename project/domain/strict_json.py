"""Strict JSON parser: RFC 8259 with the rules of I-JSON (RFC 7493), one object."""

import json
import math
from types import NoneType
from typing import Any

from project.domain.encodings import guess_encoding
from project.domain.errors import RefusalError
from project.domain.text import clean

BOM = "\ufeff"
_TYPES = {NoneType: "null", bool: "boolean", int: "number", float: "number", str: "string", list: "array"}


def parse_object(body: bytes, *, is_counted: bool = False) -> dict[str, Any]:
    """Parse an object. Raises RefusalError `malformed_json` or `body_not_object`.

    `is_counted` means that the sender counted the bytes, maybe wrongly. Also refuses what Python's parser accepts (NaN,
    infinite numbers, repeated keys) or fails at (deep nesting).
    """
    text = decode(body, is_counted=is_counted)
    if not text.strip():
        raise RefusalError("malformed_json", "empty")
    try:
        parsed = json.loads(text, object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite)
    except json.JSONDecodeError as error:
        variant = _variant(text, error, is_counted=is_counted)
        raise RefusalError("malformed_json", variant, line=error.lineno, column=error.colno) from None
    except RecursionError:
        raise RefusalError("malformed_json", "too_deep") from None
    except ValueError:  # an integer of more than 4,300 digits (CVE-2020-10735)
        raise RefusalError("malformed_json", "number") from None
    if not isinstance(parsed, dict):
        kind = json_type(parsed)
        raise RefusalError("body_not_object", "scalar" if kind in ("boolean", "number") else kind)
    return parsed


def json_type(value: object) -> str:
    """Return the JSON type of a parsed value."""
    return _TYPES.get(type(value), "object")


def decode(body: bytes, *, is_counted: bool) -> str:
    """Decode UTF-8. Raises RefusalError, which names the encoding if it is clear."""
    try:
        text = body.decode("utf-8-sig")  # Windows clients send a byte order mark
    except UnicodeDecodeError as error:
        if is_counted and error.reason == "unexpected end of data":
            raise RefusalError("malformed_json", "miscounted") from None
    else:
        if "\0" not in text:  # UTF-16 of ASCII letters is UTF-8, too
            return text
    encoding = guess_encoding(body)
    if encoding is None:
        raise RefusalError("malformed_json", "not_utf8")
    raise RefusalError("malformed_json", "encoding", encoding=encoding)


def _variant(text: str, error: json.JSONDecodeError, *, is_counted: bool) -> str:
    """Return the variant of a syntax error: two byte order marks, an early end, or any other."""
    if text.startswith(BOM):
        return "marks"
    is_cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
    if not is_cut or text.endswith("}"):
        return ""
    return "miscounted" if is_counted and not text.isascii() else "cut"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise RefusalError("malformed_json", "repeated_key", key=clean(key, 40))
        result[key] = value
    return result


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise RefusalError("malformed_json", "number")
    return number
