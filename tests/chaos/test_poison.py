"""F34, F35: malicious or broken requests are refused, never with 5xx.

That holds whether or not PostgreSQL is available. Every request that reaches the application is recorded (promise P8).
Requests that the HTTP parser refuses, or whose body exceeds the server's limit, never reach it: they are answered, but
not recorded.
"""

import http.client
import json
import re
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from project.http.request_state import MAX_BODY_BYTES
from project.server import HARD_BODY_LIMIT
from tests.builders import ADDRESS
from tests.chaos.invariants import check_invariants
from tests.chaos.load import Answer, Client, new_body, new_key
from tests.chaos.postgres import Postgres
from tests.chaos.processes import HOST, eventually
from tests.chaos.proxy import Proxy
from tests.chaos.service import Service

ANSWERED_WITHIN_S = 3.6
VALID_BODY = {"name": "Poison", "username": "poison", "email": "poison@mail.example.org"}


def _request(
    body: bytes = b"{}",
    *headers: bytes,
    media_type: bytes | None = b"application/json",
    length: bytes | None = None,
    start: bytes = b"POST " + ADDRESS.encode() + b" HTTP/1.1",
    host: bytes = b"127.0.0.1",
) -> bytes:
    """Return the bytes of a request. An empty `length` omits Content-Length."""
    lines = [start, b"Host: " + host, b"Connection: close", b"Accept-Language: en", *headers]
    if media_type is not None:
        lines.append(b"Content-Type: " + media_type)
    if length != b"":
        lines.append(b"Content-Length: " + (length or b"%d" % len(body)))
    return b"\r\n".join([*lines, b"", b""]) + body


def _with(**fields: Any) -> bytes:
    """Return a request that is valid except for these fields."""
    return _request(json.dumps(VALID_BODY | fields).encode())


def _chunked(body: bytes, coding: bytes = b"chunked") -> bytes:
    return _request(body, b"Transfer-Encoding: " + coding, length=b"")


GOOD = json.dumps(VALID_BODY).encode()
REFUSED: dict[str, tuple[bytes, int, str]] = {
    "nothing": (_request(b""), 400, "malformed_json"),
    "only NUL": (_request(b"\0" * 100), 400, "malformed_json"),
    "all bytes": (_request(bytes(range(256))), 400, "malformed_json"),
    "cut off": (_request(GOOD[:-5]), 400, "malformed_json"),
    "Content-Length too small": (_request(GOOD, length=b"5"), 400, "malformed_json"),
    "nested arrays": (_request(b"[" * 16_000), 400, "malformed_json"),
    "nested objects": (_request(b'{"a":' * 3_000), 400, "malformed_json"),
    "nested in a field": (_request(b'{"name":' + b"[" * 500 + b"]" * 500 + b"}"), 422, "validation_failed"),
    "not closed in a field": (_request(b'{"name":' + b"[" * 8_000 + b"}"), 400, "malformed_json"),
    "NaN": (_request(b'{"username": NaN}'), 400, "malformed_json"),
    "Infinity": (_request(b'{"username": -Infinity}'), 400, "malformed_json"),
    "1e400": (_request(b'{"username": 1e400}'), 400, "malformed_json"),
    "number of 5000 digits": (_request(b'{"username": %s}' % (b"9" * 5_000)), 400, "malformed_json"),
    "a key twice": (_request(b'{"name": "a", "name": "b"}'), 400, "malformed_json"),
    "UTF-16": (_request(GOOD.decode().encode("utf-16")), 400, "malformed_json"),
    "windows-1251": (_request('{"name": "Иван"}'.encode("cp1251")), 400, "malformed_json"),
    "bad UTF-8": (_request(b'{"name": "\xff\xfe"}'), 400, "malformed_json"),
    "overlong UTF-8": (_request(b'{"name": "\xc0\x80"}'), 400, "malformed_json"),
    "surrogates in UTF-8": (_request(b'{"name": "\xed\xa0\x80"}'), 400, "malformed_json"),
    "raw NUL": (_request(b'{"name": "a\0b"}'), 400, "malformed_json"),
    "null": (_request(b"null"), 400, "body_not_object"),
    "array": (_request(b"[]"), 400, "body_not_object"),
    "string": (_request(b'"x"'), 400, "body_not_object"),
    "number": (_request(b"1"), 400, "body_not_object"),
    "two lengths in one": (_chunked(b"0\r\n\r\n"), 400, "malformed_json"),
    "other host": (_request(host=b"evil.example.org"), 400, "unknown_host"),
    "no host's name": (_request(host=b"\xff:99999999"), 400, "unknown_host"),
    "broken IPv6 host": (_request(host=b"[::1"), 400, "unknown_host"),
    "weak key": (_request(GOOD, b"Idempotency-Key: 1"), 400, "bad_idempotency_key"),
    "long key": (_request(GOOD, b"Idempotency-Key: " + b"a" * 300), 400, "bad_idempotency_key"),
    "key of other bytes": (_request(GOOD, b"Idempotency-Key: " + b"\xff" * 30), 400, "bad_idempotency_key"),
    "two keys": (
        _request(GOOD, b"Idempotency-Key: " + b"a" * 30, b"Idempotency-Key: " + b"b" * 30),
        400,
        "bad_idempotency_key",
    ),
    "GET": (_request(b"", start=b"GET /useradd HTTP/1.1"), 405, "method_not_allowed"),
    "long method": (_request(start=b"P" * 5_000 + b" /useradd HTTP/1.1"), 405, "method_not_allowed"),
    "large": (_request(b"{" + b" " * MAX_BODY_BYTES + b"}"), 413, "body_too_large"),
    "large in chunks": (_chunked(b"5000\r\n" + b" " * 0x5000 + b"\r\n0\r\n\r\n"), 413, "body_too_large"),
    "text": (_request(GOOD, media_type=b"text/plain"), 415, "unsupported_media_type"),
    "form": (_request(b"name=a", media_type=b"application/x-www-form-urlencoded"), 415, "unsupported_media_type"),
    "file": (_request(b"--x--", media_type=b"multipart/form-data; boundary=x"), 415, "unsupported_media_type"),
    "no type": (_request(GOOD, media_type=None), 415, "unsupported_media_type"),
    "type of other bytes": (_request(GOOD, media_type=b"\xff\xfe"), 415, "unsupported_media_type"),
    "gzip": (_request(b"\x1f\x8b\x08\0", b"Content-Encoding: gzip"), 415, "unsupported_media_type"),
    "escaped NUL": (_with(name="a\0b", username="\0", email="\0@x.ru", phone="\0"), 422, "validation_failed"),
    "lone surrogates": (_with(name="\ud800", username="\udfff", email="\ud800@x.ru"), 422, "validation_failed"),
    "names of fields": (_with(**{"\ud800": 1, "\0": 2, "\u202e": 3}), 422, "validation_failed"),
    "flood of fields": (_with(**{f"k{number}": 1 for number in range(1_000)}), 422, "validation_failed"),
    "rights": (_with(is_admin=True, id=1, password="secret"), 422, "validation_failed"),
    "wrong types": (_with(name=1, username=True, phone=[], email={}, birth_date=1e9), 422, "validation_failed"),
    "turned text": (_with(name="a\u202eb", username="a\u202eb"), 422, "validation_failed"),
    "two scripts": (_with(username="\u0430dmin"), 422, "validation_failed"),
    "markup": (_with(username="<script>alert(1)</script>"), 422, "validation_failed"),
    "formula": (_with(username="=cmd|' /C calc'!A0", phone="=+79123456789"), 422, "validation_failed"),
    "header in an e-mail": (_with(email="a\r\nBcc: x@mail.example.org"), 422, "validation_failed"),
    "300 digits": (_with(phone="9" * 300), 422, "validation_failed"),
    "no such day": (_with(birth_date="2024-02-30"), 422, "validation_failed"),
    "year 1": (_with(birth_date="0001-01-01"), 422, "validation_failed"),
    "no contacts": (_with(email=" "), 422, "validation_failed"),
    "headers of other bytes": (
        _request(b"{}", b"User-Agent: \xff\xfe", b"X-Request-Id: \xff", b"Accept: \xff;q=nan", b"Cookie: session=\xff"),
        422,
        "validation_failed",
    ),
    "many headers": (_request(b"{}", *(b"X-%d: a" % number for number in range(1_000))), 422, "validation_failed"),
    "bad query": (
        _request(start=b"POST /useradd?dry_run=%00%ff&%ff=%&dry_run HTTP/1.1"),
        400,
        "bad_request",
    ),
}
"""Requests that the application refuses, each with status and code."""

UNREADABLE: dict[str, tuple[bytes, int]] = {
    "TLS": (b"\x16\x03\x01\x02\0\x01\0" + bytes(range(256)) + b"\r\n\r\n", 400),
    "half a start line": (b"POST\r\n\r\n", 400),
    "address of other bytes": (_request(start=b"POST /useradd\xff HTTP/1.1"), 400),
    "address with a broken host": (_request(start=b"POST http://[::1/useradd HTTP/1.1"), 400),
    "negative length": (_request(length=b"-1"), 400),
    "signed length": (_request(length=b"+2"), 400),
    "hexadecimal length": (_request(length=b"0x2"), 400),
    "length with an underscore": (_request(length=b"1_0"), 400),
    "length in other digits": (_request(length="２".encode()), 400),
    "length of 20 digits": (_request(length=b"9" * 20), 413),
    "length of 5000 digits": (_request(length=b"9" * 5_000), 400),
    "two lengths": (_request(b"{}", b"Content-Length: 5"), 400),
    "no chunk": (_chunked(b"ZZ\r\n{}\r\n0\r\n\r\n"), 400),
    "chunk without an end": (_chunked(b"2\r\n{}{}\r\n0\r\n\r\n"), 400),
    "unknown coding": (_chunked(b"", b"gzip, chunked"), 501),  # as RFC 9112, 6.1 requires
    "NUL in a header": (_request(b"{}", b"User-Agent: a\0b"), 400),
    "line feed in a header": (_request(b"{}", b"User-Agent: a\nb"), 400),
    "large header": (_request(b"{}", b"User-Agent: " + b"a" * 20_000), 431),
}
"""Requests that waitress refuses before they reach the application, each with its status."""


def _exchange(service: Service, *parts: bytes) -> Answer:
    """Send bytes and read one response; the server may respond before it has read everything."""
    began = time.monotonic()
    try:
        with socket.create_connection((HOST, service.port), timeout=10) as connection:
            try:
                for part in parts:
                    connection.sendall(part)
            except OSError:
                pass
            response = http.client.HTTPResponse(connection, method="POST")
            response.begin()
            text = response.read()
    except (OSError, http.client.HTTPException):
        return Answer(None, {}, time.monotonic() - began, {}, "", {})
    seconds = time.monotonic() - began
    document = json.loads(text) if "json" in response.headers.get_content_type() else {}
    key = document.get("idempotency_key", "")
    return Answer(response.status, document, seconds, dict(response.getheaders()), key, {})


def _document(answer: Answer) -> dict[str, Any]:
    """Return the members of an answer that are equal in every attempt."""
    members = {name: value for name, value in answer.json.items() if name not in {"attempt_id", "idempotency_key"}}
    return members | {"detail": re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UUID", str(members.get("detail")))}


def _is_breaker_open(service: Service) -> bool:
    return any(
        (line.get("message"), line.get("breaker")) == ("database unavailable: breaker opened", "writing")
        for line in service.log_lines()
    )


def _recorded(postgres: Postgres, service: Service) -> int:
    """Return the number of recorded attempts after the spool has been drained."""
    eventually(lambda: '"attempts":0' in _status(service), 5, "the spool was not drained")
    return int(postgres.execute("select count(*) from attempts")[0][0])


def _status(service: Service) -> str:
    client = Client(service)
    try:
        return client.get("/status")[1].replace(" ", "")
    finally:
        client.close()


def test_malicious_requests_are_refused_and_recorded_with_and_without_postgres(
    postgres: Postgres, proxy: Proxy, new_service: Callable[..., Service]
) -> None:
    """F34 and P8."""
    service = new_service(postgres.url(port=proxy.port)).start()
    expected = {name: (status, code) for name, (_, status, code) in REFUSED.items()}

    available = {name: _exchange(service, sent) for name, (sent, _, _) in REFUSED.items()}
    proxy.refuse()
    client = Client(service)
    first = client.create()
    eventually(lambda: _is_breaker_open(service), 5, "the breaker did not open")
    unavailable = {name: _exchange(service, sent) for name, (sent, _, _) in REFUSED.items()}
    last = client.create()
    proxy.pass_through()
    client.close()

    assert {name: (answer.status, answer.code) for name, answer in available.items()} == expected
    assert {name: _document(answer) for name, answer in unavailable.items()} == {
        name: _document(answer) for name, answer in available.items()
    }
    assert {first.code, last.code} == {"database_unavailable"}
    answers = [*available.values(), *unavailable.values(), first, last]
    assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S
    check_invariants(postgres, service, answers)


@pytest.mark.parametrize("name", UNREADABLE)
def test_invalid_http_is_refused_without_a_record_or_an_error_in_the_log(
    postgres: Postgres, service: Service, name: str
) -> None:
    """F34: anyone can send the request at any time, so it must not raise an alert."""
    sent, status = UNREADABLE[name]
    before = _recorded(postgres, service)

    answer = _exchange(service, sent)

    assert answer.status == status
    assert _recorded(postgres, service) == before
    check_invariants(postgres, service, [])


@pytest.mark.parametrize("size", [MAX_BODY_BYTES, MAX_BODY_BYTES + 1, HARD_BODY_LIMIT - 1])
def test_a_body_below_the_servers_limit_is_validated_and_recorded(
    postgres: Postgres, service: Service, size: int
) -> None:
    """F35."""
    body, key = new_body(), new_key()
    sent = _request(json.dumps(body).encode().ljust(size), b"Idempotency-Key: " + key.encode())

    answer = replace(_exchange(service, sent), key=key, sent=body)

    assert (answer.status, answer.code) == ((201, "created") if size <= MAX_BODY_BYTES else (413, "body_too_large"))
    check_invariants(postgres, service, [answer])


@pytest.mark.parametrize("size", [HARD_BODY_LIMIT, 10 * 1024 * 1024])
@pytest.mark.parametrize("sends_body", [True, False], ids=["sent", "announced"])
def test_a_body_over_the_servers_limit_is_refused_by_the_server_and_not_recorded(
    postgres: Postgres, service: Service, size: int, *, sends_body: bool
) -> None:
    """F35: the server responds after the head."""
    before = _recorded(postgres, service)

    answer = _exchange(service, _request(b"", length=b"%d" % size), b" " * size * sends_body)

    assert answer.status == 413
    assert (answer.code, answer.headers["Content-Type"]) == ("body_too_large", "application/problem+json")
    assert _recorded(postgres, service) == before
    check_invariants(postgres, service, [])


def test_an_endless_chunked_body_is_refused_at_the_servers_limit(postgres: Postgres, service: Service) -> None:
    """F35, with an endless chunked body."""
    before = _recorded(postgres, service)
    chunk = b"400\r\n" + b" " * 0x400 + b"\r\n"

    answer = _exchange(service, _chunked(b""), *[chunk] * (2 * HARD_BODY_LIMIT // 0x400))

    assert answer.status == 413
    assert _recorded(postgres, service) == before
    check_invariants(postgres, service, [])
