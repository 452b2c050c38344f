"""Strict JSON parser: RFC 8259 with the rules of I-JSON (RFC 7493), one object."""

import json
import math
from types import NoneType
from typing import Any

from project.domain.errors import RefusalError
from project.domain.text import clean

_TYPES = {NoneType: "null", bool: "boolean", int: "number", float: "number", str: "string", list: "array"}


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse an object. Raises RefusalError `malformed_json` or `body_not_object`.

    Also refuses what Python's parser accepts (NaN, infinite numbers, repeated keys) or fails at (deep nesting).
    """
    try:
        text = body.decode("utf-8-sig")  # Windows clients send a byte order mark
    except UnicodeDecodeError:
        raise RefusalError("malformed_json", _guess_encoding(body)) from None
    if not text.strip():
        raise RefusalError("malformed_json", "empty")
    try:
        parsed = json.loads(text, object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise RefusalError("malformed_json", line=error.lineno, column=error.colno) from None
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


def _guess_encoding(body: bytes) -> str:
    """Return the error variant of a wrong encoding; windows-1251 has its own variant."""
    if b"\0" in body:  # UTF-16
        return "not_utf8"
    try:
        letters = [character for character in body.decode("cp1251") if not character.isascii()]
    except UnicodeDecodeError:
        return "not_utf8"
    return "windows_1251" if all("а" <= letter.lower() <= "ё" for letter in letters) else "not_utf8"


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
