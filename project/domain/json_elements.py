"""Splits request bodies with many JSON objects, without parsing the objects completely."""

import codecs
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from project.domain.errors import FIELDS, RefusalError
from project.domain.strict_json import decode_body, syntax_error
from project.domain.text import clean

_WHITESPACE = re.compile(r"[ \t\n\r]*")
_LENIENT_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
"""Decoder that only finds the end of an element. parse_object() refuses invalid numbers and repeated keys later."""


def check_lines(body: bytes) -> None:
    """Raise RefusalError if the body does not have one JSON object on each line.

    Detects an array, an object that contains a list of users, an object over several lines, and several objects on
    one line. Other errors are found later, line by line.
    """
    start = body.removeprefix(codecs.BOM_UTF8).lstrip()
    if start.startswith(b"["):
        raise RefusalError("malformed_json", "array_as_lines", line=body.count(b"\n", 0, len(body) - len(start)) + 1)
    first = start.partition(b"\n")[0].rstrip()
    try:
        text = (first if first.endswith(b"}") else start).decode()
        value, end = _LENIENT_DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return  # parse_line() reports the error
    if not isinstance(value, dict):
        return
    if (key := find_wrapped_list(value)) is not None:
        raise RefusalError("malformed_json", "wrapped_list", key=clean(key, 40))
    if lines := text[:end].count("\n"):
        number = body.count(b"\n", 0, len(body) - len(start)) + 1
        raise RefusalError("malformed_json", "object_over_lines", line=number, last=number + lines)
    if len(first) == len(start.rstrip()) and text[end:].lstrip(" ,").startswith("{"):
        raise RefusalError("malformed_json", "one_line")


def find_wrapped_list(body: Mapping[str, Any]) -> str | None:
    """Return the key of the first list in `body`; None without a list or with a user's field."""
    if body.keys() & set(FIELDS):
        return None
    return next((key for key, value in body.items() if isinstance(value, list)), None)


def split_lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, unparsed, with their numbers from 1."""
    for number, line in enumerate(io.BytesIO(body), start=1):
        if line.strip():
            yield number, line


def split_array(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the elements of an array unparsed, with their numbers from 1.

    The body must begin with `[`, perhaps after whitespace. Raises RefusalError `malformed_json` at a syntax error.
    """
    text = decode_body(body, has_content_length=False)
    number, position = 0, _skip_whitespace(text, text.index("[") + 1)
    is_more = text[position : position + 1] != "]"
    try:
        while is_more:
            _, end = _LENIENT_DECODER.raw_decode(text, position)
            number += 1
            yield number, text[position:end].encode()
            position = _skip_whitespace(text, end)
            is_more = text[position : position + 1] == ","
            if is_more:
                position = _skip_whitespace(text, position + 1)
    except json.JSONDecodeError as error:
        raise syntax_error(text, error) from None
    except RecursionError:
        raise RefusalError("malformed_json", "too_deep") from None
    if text[position:].rstrip() != "]":
        line = text.count("\n", 0, position) + 1
        raise RefusalError("malformed_json", line=line, column=position - text.rfind("\n", 0, position))


def _skip_whitespace(text: str, position: int) -> int:
    match = _WHITESPACE.match(text, position)
    return match.end() if match else position
