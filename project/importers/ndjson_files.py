"""Reads files with a JSON object on each line."""

import codecs
import json
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from project.domain.errors import FIELDS, RefusalError
from project.domain.json_elements import find_wrapped_list
from project.domain.strict_json import parse_line
from project.domain.text import clean
from project.importers.rows import MAX_LINE_LENGTH, FileError, Row, Source, line_too_long_error

_READ_BYTES = MAX_LINE_LENGTH + len(b"\r\n")
"""Maximum number of bytes of a line that are read at a time."""
_WRAPPED_LIST = re.compile(rb'\{\s*"([^"\\]+)"\s*:\s*\[')
"""Matches a start such as `{"users": [`, with users on lines of their own: the last of these lines is valid NDJSON."""


def open_ndjson(file: BinaryIO) -> Source:
    """Open a file with a request body of POST /useradd on each line.

    Raises FileError if the file is a JSON array, or an object with a list of users.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(MAX_LINE_LENGTH).removeprefix(codecs.BOM_UTF8).lstrip()
    if start.startswith(b"["):
        raise FileError("array")
    if (key := _find_wrapped_list(start)) is not None:
        raise FileError("wrapped_list", key=clean(key, 40))
    file.seek(0)
    return Source(length, FIELDS, FIELDS, _rows(file))


def _find_wrapped_list(start: bytes) -> str | None:
    """Return the key of the list of users in an object at the start of a file, or None."""
    try:
        value = json.loads(start.partition(b"\n")[0])
    except (ValueError, RecursionError):
        match = _WRAPPED_LIST.match(start)
        return match[1].decode(errors="replace") if match else None
    return find_wrapped_list(value) if isinstance(value, dict) else None


def _rows(file: BinaryIO) -> Iterator[Row]:
    number = position = 0
    while line := file.readline(_READ_BYTES):
        number += 1
        part = line
        while len(part) == _READ_BYTES and not part.endswith(b"\n"):
            position += len(part)
            part = file.readline(_READ_BYTES)
        position += len(part)
        if len(line.rstrip(b"\r\n")) > MAX_LINE_LENGTH:
            yield _row(number, {}, line_too_long_error(), position)
        elif line.removeprefix(codecs.BOM_UTF8).strip():
            try:
                yield _row(number, parse_line(line, number), None, position)
            except RefusalError as error:
                yield _row(number, {}, error, position)


def _row(number: int, body: dict[str, Any], refusal: RefusalError | None, position: int) -> Row:
    return Row(number, tuple(_cell(body.get(field)) for field in FIELDS), body, refusal, position)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
