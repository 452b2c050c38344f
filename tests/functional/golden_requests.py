"""Requests and errors whose responses the golden files of test_golden.py pin."""

import json
from collections.abc import Iterator
from typing import Any

from flask_wtf.csrf import CSRFError
from werkzeug import exceptions

from project.contract.error_codes import FIELD_CODES, PROBLEMS
from project.domain.errors import FieldError, Params, RateLimitedError, RefusalError, ValidationFailedError
from tests.builders import ANNA
from tests.functional.attempts import INVALID_PHONE

KEY = "golden-idempotency-key-1"
PARAMS: Params = {
    "name": "period",
    "key": "phone",
    "hint": "username",
    "known": "dry_run",
    "host": "vm.local",
    "encoding": "KOI8-R",
    "value": "century",
    "example": "7d",
    "line": 3,
    "column": 14,
    "limit": 16,
    "length": 180,
    "position": 7,
    "codepoint": "U+0000",
    "character": "ᴏ",
    "field": "email",
    "method": "GET",
    "allowed": "POST",
    "type": "text/plain",
    "country_code": 7,
    "digits": 9,
    "needed": 10,
    "last": 7,
    "cells": 4,
    "headers": 3,
    "separator": ";",
}
"""Values for the placeholders of all messages."""
MANY_FIELDS = {"name": " ", "username": "aб", "phone": "+7 9", "email": "x", "birth_date": "1990", "fone": 1}
LENGTHS = {"name": "a\0", "username": "u" * 151, "phone": None, "email": "a@b.test"}
BODIES = {
    "empty": b"",
    "not JSON": b'{"name": "x",\n "username" 1}',
    "not UTF-8": b'{"name": "\x00\xff\xfe"}',
    "cut": b'{"name": "x',
    "miscounted": '{"name": "Иван'.encode(),
    "two marks": b"\xef\xbb\xbf\xef\xbb\xbf{}",
    "UTF-16": '{"name": "x"}'.encode("utf-16-le"),
    "windows-1251": json.dumps(ANNA, ensure_ascii=False).encode("cp1251"),
    "repeated key": b'{"name": 1, "name": 2}',
    "NaN": b'{"name": NaN}',
    "too deep": b"[" * 16_000,
    "array": b"[]",
    "string": b'"x"',
    "null": b"null",
    "number": b"1",
    "too large": b" " * 20_000,
    "no fields": b"{}",
    "wrong types": b'{"name": 1, "username": true, "phone": [], "email": {}}',
    "many fields": json.dumps(MANY_FIELDS).encode(),
    "characters and lengths": json.dumps(LENGTHS).encode(),
    "no such day": b'{"name": "x", "username": "x", "email": "x@example.org", "birth_date": "2023-02-30"}',
}
"""Bodies for POST /useradd that are refused."""
PERIOD = "period=dates&from=2026-03-08&to=2026-03-10"
ABSENT = "/api/v1/attempts/0190b0e5-0000-7000-8000-000000000000/"
READS = (
    "/livez",
    "/readyz",
    "/status",
    "/api/v1/nothing/",
    "/api/v1/useradd/nothing",
    "/api/v1/attempts/no-uuid/",
    "/api/v1/stats/",
    "/api/v1/attempts/",
    ABSENT,
)
READER_READS = (
    f"/api/v1/stats/?{PERIOD}",
    f"/api/v1/stats/?{PERIOD}&tz=UTC&result=rejected",
    "/api/v1/stats/?q=nobody",
    "/api/v1/stats/?period=dates&from=2026-03-10&to=2026-03-08",
    "/api/v1/stats/?period=no",
    "/api/v1/stats/?tz=no",
    f"/api/v1/attempts/?{PERIOD}",
    f"/api/v1/attempts/?{PERIOD}&limit=10",
    "/api/v1/attempts/?limit=0",
    "/api/v1/attempts/?q=nobody",
    "/api/v1/attempts/?before=1",
    ABSENT,
)
CREATED: dict[str, Any] = {"phone": "+7 999 •••-••-67", "email": "a•••@example.org"}
ATTEMPTS: list[dict[str, Any]] = [
    *[CREATED] * 9,
    {"status": 422, "code": "invalid_phone", "errors": (INVALID_PHONE,)},
    {"status": 503, "code": "database_unavailable"},
    {"status": 200, "code": "dry_run", "username": None},
]
"""Outcomes of the attempts that are stored before reading."""


def errors() -> Iterator[tuple[str, Exception]]:
    """Yield every error that ends in a problem document, with a name."""
    for code, problem in PROBLEMS.items():
        for variant in problem.details:
            yield f"{code} {variant}".strip(), RefusalError(code, variant, (), **PARAMS)
    for code, field_code in FIELD_CODES.items():
        fields = (FieldError(f"field_{variant}", code, variant, PARAMS) for variant in field_code.messages)
        yield code, ValidationFailedError(tuple(fields))
    for error in (RateLimitedError(12), CSRFError(), RuntimeError("a defect")):
        yield repr(error), error
    for status in (400, 403, 404, 413, 415, 422, 429, 501):
        yield f"HTTP {status}", exceptions.default_exceptions[status]()
    yield "HTTP 405", exceptions.MethodNotAllowed(["POST"])
