"""Reads files with a JSON object on each line."""

import codecs
import json
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from project.domain.errors import FIELDS, RefusalError
from project.domain.strict_json import parse_line
from project.importers.rows import MAX_LINE, FileError, Row, Source, line_too_long_error


def open_ndjson(file: BinaryIO) -> Source:
    """Open a file whose lines are request bodies of POST /useradd.

    Raises FileError if the file is an array.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(MAX_LINE).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        raise FileError("array")
    file.seek(0)
    return Source(length, FIELDS, FIELDS, _rows(file))


def _rows(file: BinaryIO) -> Iterator[Row]:
    number = read = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        part = line
        while part and len(part) > MAX_LINE and not part.endswith(b"\n"):
            read += len(part)
            part = file.readline(MAX_LINE + 1)
        read += len(part)
        if len(line) > MAX_LINE:
            yield _row(number, {}, line_too_long_error(), read)
        elif line.removeprefix(codecs.BOM_UTF8).strip():
            try:
                yield _row(number, parse_line(line, number), None, read)
            except RefusalError as error:
                yield _row(number, {}, error, read)


def _row(number: int, body: dict[str, Any], refusal: RefusalError | None, read: int) -> Row:
    return Row(number, tuple(_cell(body.get(field)) for field in FIELDS), body, refusal, read)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
