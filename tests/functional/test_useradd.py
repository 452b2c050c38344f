"""POST /useradd: the contract with integrators."""

import json
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, tzinfo
from typing import Any, Self

import pytest
from flask.testing import FlaskClient

from project.api.routes import PATHS
from project.contract import schemas
from project.database.semaphore import FairSemaphore
from project.domain.passwords import ALPHABET
from project.runtime import Runtime
from project.server import RECEIVED
from project.services.attempts import Delivery
from tests.builders import ADDRESS, ANNA, HTML, IVAN, KEY, useradd
from tests.conftest import Rows


def test_a_user_is_created_with_login_and_password(client: FlaskClient, rows: Rows) -> None:
    response = useradd(client, ANNA)

    assert response.status_code == 201
    assert response.json is not None
    assert response.json["login"] == "a.sokolova"
    assert set(response.json["password"]) <= set(ALPHABET + "-")
    assert len(response.json["password"].replace("-", "")) == 26
    user = response.json["user"]
    assert (user["phone"], user["email"], user["birth_date"]) == ("+79125550141", "Anna@example.org", "1990-12-31")
    assert datetime.fromisoformat(user["created_at"]).utcoffset() is not None
    assert user["id"] == response.json["attempt_id"] == response.headers["X-Request-Id"]
    assert [(row["name"], row["username"]) for row in rows.of("users")] == [("Анна Соколова", "a.sokolova")]
    assert rows.outcomes() == [(201, "created")]


def test_the_response_is_readable_json_and_not_cacheable(client: FlaskClient) -> None:
    response = useradd(client, ANNA)

    assert "Анна Соколова" in response.text
    assert response.text.endswith("}\n")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Location"] == f"/results/{response.headers['X-Request-Id']}/"


@pytest.mark.parametrize("address", PATHS)
def test_every_address_responds_without_a_redirect(client: FlaskClient, address: str) -> None:
    response = client.post(address, json=ANNA)

    assert response.status_code == 201


def test_the_password_is_stored_only_as_a_tagged_hash(client: FlaskClient, rows: Rows) -> None:
    password = useradd(client, ANNA, headers={"Idempotency-Key": KEY}).json["password"]  # type: ignore[index]

    tables = str([rows.of(table) for table in ("users", "attempts", "idempotency_keys", "identifiers")])

    assert rows.of("users")[0]["password_hash"].startswith("hmac-sha256$")
    assert password not in tables
    assert password.replace("-", "") not in tables
    assert KEY not in tables


def test_an_attempt_is_recorded_with_its_metadata_and_masked_contacts(client: FlaskClient, rows: Rows) -> None:
    useradd(client, ANNA, headers={"User-Agent": "1C/8.3", "X-Request-Id": "order-17", "Accept-Language": "en"})

    [attempt] = rows.attempts()
    assert attempt["username"] == "a.sokolova"
    assert (attempt["phone_masked"], attempt["email_masked"]) == ("+7 912 •••-••-41", "A•••@example.org")
    assert (attempt["user_agent"], attempt["client_request_id"], attempt["language"]) == ("1C/8.3", "order-17", "en")
    assert (attempt["client_address"], attempt["method"], attempt["via"]) == ("127.0.0.1", "POST", "direct")
    assert attempt["duration_ms"] >= 0
    assert abs((attempt["received_at"] - datetime.now(UTC)).total_seconds()) < 60
    assert "5550141" not in str(attempt)
    assert "nna@" not in str(attempt["sent"])


def test_the_same_username_twice_is_a_conflict_and_both_are_recorded(client: FlaskClient, rows: Rows) -> None:
    useradd(client, ANNA)

    response = useradd(client, {**IVAN, "username": "A.Sokolova"})

    assert (response.status_code, response.json["code"]) == (409, "conflict")  # type: ignore[index]
    assert rows.outcomes() == [(201, "created"), (409, "username_taken")]
    assert len(rows.of("users")) == 1


def test_a_conflict_names_every_field_that_is_taken(client: FlaskClient, rows: Rows) -> None:
    useradd(client, ANNA)

    response = useradd(client, ANNA)

    assert response.json is not None
    assert [(e["field"], e["code"]) for e in response.json["errors"]] == [
        ("username", "username_taken"),
        ("phone", "phone_taken"),
        ("email", "email_taken"),
    ]
    assert [error["field"] for error in rows.attempts()[1]["errors"]] == ["username", "phone", "email"]


def test_a_refused_attempt_reserves_no_identifiers(client: FlaskClient) -> None:
    useradd(client, ANNA)
    useradd(client, {**IVAN, "username": ANNA["username"]})

    response = useradd(client, {**IVAN, "username": "another"})

    assert response.status_code == 201


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"username": "U1"}, {"username": "ｕ１"}),
        ({"username": "ivan"}, {"username": "Ｉｖａｎ"}),
        ({"username": "é"}, {"username": "e\u0301"}),
        ({"username": "kelvin"}, {"username": "\u212aelvin"}),
        ({"phone": "8 912 345-67-89"}, {"phone": "+7 (912) 3456789"}),
        ({"phone": "8 912 345-67-89"}, {"phone": "٨٩١٢٣٤٥٦٧٨٩"}),
        ({"phone": "8 912 345-67-89"}, {"phone": "tel:+79123456789"}),
        ({"email": "User@Example.COM"}, {"email": "user@example.com"}),
        ({"email": "u@пример.рф"}, {"email": "U@xn--e1afmkfd.xn--p1ai"}),
        ({"email": "ivan@faß.de"}, {"email": "IVAN@xn--fa-hia.de"}),
    ],
)
def test_an_identifier_in_another_spelling_is_a_conflict(
    client: FlaskClient, first: dict[str, str], second: dict[str, str]
) -> None:
    one = {"name": "N", "username": "first.one", "email": "one@example.org"}
    two = {"name": "N", "username": "second.one", "email": "two@example.org"}
    [field] = first

    created = useradd(client, one | first)
    refused = useradd(client, two | second)

    assert created.status_code == 201
    assert refused.status_code == 409
    assert [e["field"] for e in refused.json["errors"]] == [field]  # type: ignore[index]


def test_an_email_is_stored_and_answered_as_written_and_two_domains_stay_two(client: FlaskClient, rows: Rows) -> None:
    one = {"name": "N", "username": "first.one", "email": "Ivan@Straße.DE"}
    two = {"name": "N", "username": "second.one", "email": "Ivan@Strasse.DE"}

    emails = [useradd(client, body).json["user"]["email"] for body in (one, two)]  # type: ignore[index]

    assert emails == ["Ivan@straße.de", "Ivan@strasse.de"]
    assert [user["email"] for user in rows.of("users")] == emails


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"username": "ivan@mail.ru", "phone": "+79991234567"}, "username"),
        ({"username": "89997654321", "phone": "+79991234567"}, "username"),
        ({"username": "89997654321", "phone": "+7 999 765"}, "phone"),
    ],
)
def test_a_username_that_reads_as_a_contact_is_the_own_one_and_a_wrong_contact_is_corrected_first(
    client: FlaskClient, body: dict[str, str], field: str
) -> None:
    response = useradd(client, {"name": "N"} | body)

    assert [error["field"] for error in response.json["errors"]] == [field]  # type: ignore[index]


def test_a_username_is_stored_as_sent(client: FlaskClient) -> None:
    response = useradd(client, {**IVAN, "username": "Petrov.Иван".replace("Иван", "Ivan")})

    assert response.json["login"] == "Petrov.Ivan"  # type: ignore[index]


BAD_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"name": None}, "name", "required"),
    ({"name": "   "}, "name", "blank"),
    ({"name": "x" * 301}, "name", "too_long"),
    ({"name": "a\u0000b"}, "name", "invalid_characters"),
    ({"name": "a\ud800"}, "name", "invalid_characters"),
    ({"name": "a\u202eb"}, "name", "invalid_characters"),
    ({"name": "a\nb"}, "name", "invalid_characters"),
    ({"name": 1}, "name", "invalid_type"),
    ({"username": ""}, "username", "blank"),
    ({"username": "x" * 151}, "username", "too_long"),
    ({"username": 1}, "username", "invalid_type"),
    ({"username": True}, "username", "invalid_type"),
    ({"username": []}, "username", "invalid_type"),
    ({"username": {}}, "username", "invalid_type"),
    ({"username": "a\u0000b"}, "username", "invalid_characters"),
    ({"username": "\ud800"}, "username", "invalid_characters"),
    ({"username": "a\u202eb"}, "username", "invalid_characters"),
    ({"username": "a\u200bb"}, "username", "invalid_characters"),
    ({"username": "a\u200cb"}, "username", "invalid_username"),
    ({"username": "a\u200db"}, "username", "invalid_username"),
    ({"username": "a\u00adb"}, "username", "invalid_characters"),
    ({"username": "a\u0085b"}, "username", "invalid_characters"),
    ({"username": "a\tb"}, "username", "invalid_characters"),
    ({"username": "a\nb"}, "username", "invalid_characters"),
    ({"username": "a b"}, "username", "invalid_username"),
    ({"username": "a b"}, "username", "invalid_username"),
    ({"username": "\u0430dmin"}, "username", "invalid_username"),
    ({"username": "<script>"}, "username", "invalid_username"),
    ({"username": "=cmd()"}, "username", "invalid_username"),
    ({"username": "..."}, "username", "invalid_username"),
    ({"username": "山田"}, "username", "invalid_username"),
    ({"email": "a@b"}, "email", "invalid_email"),
    ({"email": '"a b"@x.ru'}, "email", "invalid_email"),
    ({"email": "a@[127.0.0.1]"}, "email", "invalid_email"),
    ({"email": "a\r\nBcc:x@y.ru"}, "email", "invalid_characters"),
    ({"email": "a\u200bb@x.ru"}, "email", "invalid_characters"),
    ({"email": "x" * 65 + "@example.org"}, "email", "invalid_email"),
    ({"email": "x" * 300 + "@example.org"}, "email", "too_long"),
    ({"email": "ivan"}, "email", "invalid_email"),
    ({"email": 5}, "email", "invalid_type"),
    ({"phone": "+7912345678;ext=12"}, "phone", "invalid_phone"),
    ({"phone": "+7 912 345-67-89 доб. 5"}, "phone", "invalid_phone"),
    ({"phone": "112"}, "phone", "invalid_phone"),
    ({"phone": "+7912345678"}, "phone", "invalid_phone"),
    ({"phone": "9" * 300}, "phone", "invalid_phone"),
    ({"phone": "=+79123456789"}, "phone", "invalid_phone"),
    ({"phone": "+999123456789"}, "phone", "invalid_phone"),
    ({"phone": 79123456789}, "phone", "invalid_type"),
    ({"birth_date": "2024-02-30"}, "birth_date", "invalid_date"),
    ({"birth_date": "0001-01-01"}, "birth_date", "date_out_of_range"),
    ({"birth_date": "9999-12-31"}, "birth_date", "date_out_of_range"),
    ({"birth_date": "20240101"}, "birth_date", "invalid_date"),
    ({"birth_date": "12/31/1990"}, "birth_date", "invalid_date"),
    ({"birth_date": 1990}, "birth_date", "invalid_type"),
    ({"is_admin": True}, "is_admin", "unknown_field"),
    ({"password": "secret"}, "password", "unknown_field"),
    ({"id": 7}, "id", "unknown_field"),
    ({"phne": "+7 999 123-45-67"}, "phne", "unknown_field"),
    ({"\ud800": 1}, "\ufffd", "unknown_field"),
    ({"a\u0000": 1}, "a\ufffd", "unknown_field"),
]


@pytest.mark.parametrize(("change", "field", "code"), BAD_FIELDS, ids=repr)
def test_an_invalid_field_is_named_and_recorded(
    client: FlaskClient, rows: Rows, change: dict[str, Any], field: str, code: str
) -> None:
    response = useradd(client, {**ANNA, **change})

    assert response.status_code == 422
    assert response.content_type == "application/problem+json"
    assert response.json is not None
    assert response.json["code"] == "validation_failed"
    assert [(e["field"], e["code"]) for e in response.json["errors"]] == [(field, code)]
    assert response.json["errors"][0]["message"]
    assert rows.outcomes() == [(422, code)]
    assert rows.of("users") == []


@pytest.mark.parametrize("contacts", [{}, {"phone": None, "email": None}, {"phone": "", "email": "  "}], ids=repr)
def test_a_phone_or_an_email_is_required(client: FlaskClient, contacts: dict[str, Any]) -> None:
    response = useradd(client, {"name": "N", "username": "nobody"} | contacts)

    assert [(e["field"], e["code"]) for e in response.json["errors"]] == [("phone", "contact_required")]  # type: ignore[index]


def test_a_phone_as_username_does_not_replace_the_phone(client: FlaskClient) -> None:
    response = useradd(client, {"name": "N", "username": "89991234567"})

    errors = [(error["field"], error["code"]) for error in response.json["errors"]]  # type: ignore[index]
    assert errors == [("username", "invalid_username"), ("phone", "contact_required")]


@pytest.mark.parametrize("absent", [None, "", "   "], ids=repr)
def test_null_and_blank_optional_fields_are_treated_as_absent(client: FlaskClient, absent: str | None) -> None:
    response = useradd(client, {**IVAN, "email": absent, "birth_date": absent})

    assert response.status_code == 201
    assert response.json["user"]["email"] is None  # type: ignore[index]


def test_all_invalid_fields_are_reported_together_in_the_order_of_the_body(client: FlaskClient, rows: Rows) -> None:
    body = {"email": "x", "zzz": 1, "phone": "1", "username": "a b", "birth_date": "?", "aaa": 1}

    response = useradd(client, body)

    assert response.json is not None
    assert [error["field"] for error in response.json["errors"]] == [*body, "name"]
    assert rows.outcomes() == [(422, "invalid_email")]


@pytest.mark.parametrize(("birth_date", "status"), [("2026-12-01", 201), ("2026-12-02", 422)])
def test_somebody_may_be_born_today_although_the_day_has_not_begun_in_utc(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, birth_date: str, status: int
) -> None:
    class Evening(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls(2026, 11, 30, 21, 30, tzinfo=tz)

    monkeypatch.setattr(schemas, "datetime", Evening)

    assert useradd(client, ANNA | {"birth_date": birth_date}).status_code == status


ORDER = """
from project.contract.schemas import user_add_schema
from project.domain.errors import ValidationFailedError
try:
    user_add_schema("RU").load({"phone": "1"} | dict.fromkeys(map(str, range(40))))
except ValidationFailedError as error:
    print([one.field for one in error.errors])
"""


@pytest.mark.slow
def test_the_order_of_errors_does_not_depend_on_hash_seeds() -> None:
    runs = {
        subprocess.run(
            [sys.executable, "-c", ORDER], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }

    assert runs == {str(["phone", *map(str, range(20)), "name", "username"]) + "\n"}


@pytest.mark.parametrize(("sent", "meant"), [("phne", "phone"), ("nmae", "name"), ("Username ", "username")])
def test_a_misspelt_field_gets_a_hint(client: FlaskClient, sent: str, meant: str) -> None:
    body = {name: value for name, value in ANNA.items() if name != meant}

    response = useradd(client, body | {sent: "1"}, headers={"Accept-Language": "en"})

    messages = {error["field"]: error["message"] for error in response.get_json()["errors"]}
    assert messages[sent] == f"There is no such field. Did you mean {meant}?"


@pytest.mark.parametrize(
    ("unknown", "missing", "messages"),
    [
        (
            {"login": "petrov.ivan"},
            "username",
            [
                "There is no such field. Did you mean username?",
                "This field is required. It was probably sent under another name: see the unknown field.",
            ],
        ),
        (
            {"last_name": "Petrov"},
            "name",
            [
                "There is no such field. Send first and last name together in “name”, for example Ivan Petrov.",
                "This field is required. Put first and last name into it together, for example Ivan Petrov.",
            ],
        ),
        (
            {"is_admin": "yes"},
            "username",
            [
                "There is no such field. Delete it; the fields are name, username, phone, email and birth_date.",
                "A username is required, for example petrov.ivan.",
            ],
        ),
    ],
)
def test_a_missing_field_and_the_unknown_one_that_is_meant_do_not_contradict_each_other(
    client: FlaskClient, unknown: dict[str, str], missing: str, messages: list[str]
) -> None:
    sent = unknown | {name: value for name, value in ANNA.items() if name != missing}

    response = useradd(client, sent, headers={"Accept-Language": "en"})

    assert response.json is not None
    assert [(error["field"], error["code"]) for error in response.json["errors"]] == [
        (next(iter(unknown)), "unknown_field"),
        (missing, "required"),
    ]
    assert [error["message"] for error in response.json["errors"]] == messages


@pytest.mark.parametrize(
    ("content_type", "beginning"),
    [
        (None, "The header Content-Type is missing."),
        ("application/x-www-form-urlencoded", "Form data is not accepted."),
        ("multipart/form-data; boundary=x", "Form data is not accepted."),
        ("text/plain; charset=utf-8", "Content-Type: text/plain is not accepted."),
        ("x" * 80, f"Content-Type: {'x' * 59}… is not accepted."),
    ],
)
def test_a_body_of_another_type_is_refused_with_what_to_send(
    client: FlaskClient, content_type: str | None, beginning: str
) -> None:
    response = client.post("/useradd", data=b"{}", content_type=content_type, headers={"Accept-Language": "en"})

    assert response.json is not None
    assert response.status_code == 415
    assert response.json["detail"].startswith(f"{beginning} Send")
    assert json.loads(response.json["detail"].partition("for example ")[2])["username"] == "petrov.ivan"


@pytest.mark.parametrize(
    ("method", "address", "detail"),
    [
        ("GET", "/useradd", "GET is not supported here. Send POST with the header Content-Type: application/json"),
        ("PUT", "/api/v1/useradd/bulk", "PUT is not supported here. Send POST with the header Content-Type: applicati"),
        ("DELETE", "/livez", "DELETE is not supported here. Supported: GET, HEAD"),
    ],
)
def test_another_method_is_refused_with_what_to_send(
    client: FlaskClient, method: str, address: str, detail: str
) -> None:
    response = client.open(address, method=method, headers={"Accept-Language": "en"})

    assert response.json is not None
    assert response.status_code == 405
    assert response.json["detail"].startswith(detail)
    assert ("application/x-ndjson" in response.json["detail"]) == ("bulk" in address)


def test_the_example_of_an_idempotency_key_is_a_usable_key_that_nobody_else_gets(client: FlaskClient) -> None:
    examples = set()
    for _ in range(2):
        response = useradd(client, ANNA, headers={"Idempotency-Key": "42", "Accept-Language": "en"})
        assert response.json is not None
        examples |= set(re.findall(r"for example (\S+), or leave", response.json["detail"]))

    first, _ = examples
    assert useradd(client, ANNA, headers={"Idempotency-Key": first}).status_code == 201


@pytest.mark.parametrize("text", ["' OR 1=1 --", "%s", "{{7*7}}", "${jndi:ldap://x}", "😀 Ольга", "山田太郎"])
def test_a_name_is_stored_and_returned_literally(client: FlaskClient, rows: Rows, text: str) -> None:
    response = useradd(client, {**ANNA, "name": text})

    assert response.json["user"]["name"] == text  # type: ignore[index]
    assert rows.of("users")[0]["name"] == text


BAD_BODIES: list[tuple[bytes, str]] = [
    (b"", "malformed_json"),
    (b"   ", "malformed_json"),
    (b"{", "malformed_json"),
    (b"[" * 16000, "malformed_json"),
    (b'{"a":' * 3000, "malformed_json"),
    (b'{"username": NaN}', "malformed_json"),
    (b'{"username": Infinity}', "malformed_json"),
    (b'{"username": -Infinity}', "malformed_json"),
    (b'{"username": 1e400}', "malformed_json"),
    (b'{"name": "a", "name": "b"}', "malformed_json"),
    (b'{"username": ' + b"9" * 5000 + b"}", "malformed_json"),
    ('{"name": "Иван"}'.encode("utf-16"), "malformed_json"),
    ('{"name": "Иван"}'.encode("cp1251"), "malformed_json"),
    (b'{"name": "\xff\xfe"}', "malformed_json"),
    (b"null", "body_not_object"),
    (b"[]", "body_not_object"),
    (b'"x"', "body_not_object"),
    (b"7", "body_not_object"),
]


@pytest.mark.parametrize(("body", "code"), BAD_BODIES, ids=lambda value: repr(value)[:40])
def test_a_body_that_is_not_a_json_object_is_refused_and_recorded(
    client: FlaskClient, rows: Rows, body: bytes, code: str
) -> None:
    response = client.post(ADDRESS, data=body, content_type="application/json")

    assert (response.status_code, response.json["code"]) == (400, code)  # type: ignore[index]
    assert rows.outcomes() == [(400, code)]


@pytest.mark.parametrize(
    ("codec", "name"), [("cp1251", "windows-1251"), ("koi8_r", "KOI8-R"), ("utf-16-le", "UTF-16"), ("utf-16", "UTF-16")]
)
def test_the_encoding_of_a_body_that_is_not_utf_8_is_named(client: FlaskClient, codec: str, name: str) -> None:
    body = '{"name": "Иван Петров"}'.encode(codec)

    response = client.post(ADDRESS, data=body, content_type="application/json", headers={"Accept-Language": "en"})

    assert f"it looks like {name}." in response.json["detail"]  # type: ignore[index]


def test_a_content_length_that_counts_letters_is_named_as_the_reason(client: FlaskClient) -> None:
    body = json.dumps(ANNA, ensure_ascii=False)

    response = client.post(
        ADDRESS, data=body.encode()[: len(body)], content_type="application/json", headers={"Accept-Language": "en"}
    )

    assert "Content-Length counts bytes, not letters" in response.json["detail"]  # type: ignore[index]


def test_a_byte_order_mark_is_ignored(client: FlaskClient) -> None:
    response = client.post(
        ADDRESS,
        data=b'\xef\xbb\xbf{"name": "N", "username": "bom", "email": "bom@example.org"}',
        content_type="application/json",
    )

    assert response.status_code == 201


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "text/json", None])
def test_another_media_type_is_refused_and_recorded(client: FlaskClient, rows: Rows, media_type: str | None) -> None:
    response = client.post(ADDRESS, data=b"{}", content_type=media_type)

    assert (response.status_code, response.json["code"]) == (415, "unsupported_media_type")  # type: ignore[index]
    assert rows.outcomes() == [(415, "unsupported_media_type")]


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/json; charset=utf-8", "application/vnd.x+json"]
)
def test_json_media_types_are_accepted(client: FlaskClient, media_type: str) -> None:
    body = b'{"name": "N", "username": "media", "email": "media@example.org"}'

    response = client.post(ADDRESS, data=body, content_type=media_type)

    assert response.status_code == 201


@pytest.mark.parametrize("coding", ["identity", "Identity", "IDENTITY ", ""])
def test_a_body_in_the_identity_coding_is_accepted(client: FlaskClient, coding: str) -> None:
    assert useradd(client, ANNA, headers={"Content-Encoding": coding}).status_code == 201


def test_a_compressed_body_is_refused(client: FlaskClient, rows: Rows) -> None:
    response = useradd(client, ANNA, headers={"Content-Encoding": "gzip"})

    assert response.status_code == 415
    assert rows.outcomes() == [(415, "unsupported_media_type")]


def test_a_large_body_is_refused_and_recorded(client: FlaskClient, rows: Rows) -> None:
    response = useradd(client, {**ANNA, "name": "x" * 20_000})

    assert (response.status_code, response.json["code"]) == (413, "body_too_large")  # type: ignore[index]
    assert rows.outcomes() == [(413, "body_too_large")]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("address", PATHS)
def test_other_methods_are_refused_with_allow_and_recorded(
    client: FlaskClient, rows: Rows, method: str, address: str
) -> None:
    response = client.open(address, method=method)

    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"
    assert rows.outcomes() == [(405, "method_not_allowed")]
    assert rows.attempts()[0]["method"] == method


@pytest.mark.parametrize(("method", "status"), [("POST", 201), ("GET", 405)])
@pytest.mark.parametrize("path", ["useradd", "//useradd", "api/v1/useradd/"])
def test_every_path_that_reaches_the_view_is_an_attempt(
    client: FlaskClient, rows: Rows, path: str, method: str, status: int
) -> None:
    """F75: the request line lacks the slash, which http.client allows and URL rules match."""
    response = client.open("/x", method=method, json=ANNA, environ_overrides={"PATH_INFO": path})

    assert response.status_code == status
    assert [row["status"] for row in rows.attempts()] == [status]


def test_a_browser_gets_a_page_with_a_curl_command_instead_of_json(client: FlaskClient, rows: Rows) -> None:
    response = client.get("/useradd", headers=HTML)

    assert response.status_code == 405
    assert response.mimetype == "text/html"
    assert "curl" in response.text
    assert rows.outcomes() == [(405, "method_not_allowed")]


def test_a_dry_run_checks_without_creating_and_is_recorded(client: FlaskClient, rows: Rows) -> None:
    response = client.post(f"{ADDRESS}?dry_run=true", json=ANNA)

    assert response.status_code == 200
    assert response.json is not None
    assert response.json["valid"] is True
    assert response.json["normalized"]["phone"] == "+79125550141"
    assert rows.of("users") == []
    assert rows.outcomes() == [(200, "dry_run")]


def test_a_dry_run_refuses_invalid_data(client: FlaskClient) -> None:
    response = client.post(f"{ADDRESS}?dry_run=true", json={})

    assert response.status_code == 422


def test_only_the_beginning_of_accept_language_is_parsed(client: FlaskClient) -> None:
    """16 KB of ever different languages cost 22 ms of a core for each request."""
    near, far = (f"{'fr,' * number}en" for number in (50, 100))

    found = [
        client.get("/livez", headers={"Accept-Language": accepted}).headers["Content-Language"]
        for accepted in (near, far)
    ]

    assert found == ["en", "ru"]


def test_messages_are_translated_and_codes_are_not(client: FlaskClient) -> None:
    russian = useradd(client, {}, headers={"Accept-Language": "ru-RU,ru;q=0.9"})
    english = useradd(client, {}, headers={"Accept-Language": "en"})
    unknown = useradd(client, {}, headers={"Accept-Language": "fr"})

    assert russian.json is not None
    assert english.json is not None
    assert russian.json["title"] == unknown.json["title"] == "Данные не прошли проверку"  # type: ignore[index]
    assert english.json["title"] == "Some fields are invalid"
    assert russian.json["code"] == english.json["code"]
    assert (russian.headers["Content-Language"], english.headers["Content-Language"]) == ("ru", "en")
    assert "Accept-Language" in russian.headers["Vary"]


def test_a_problem_document_has_all_members_of_the_contract(client: FlaskClient) -> None:
    response = useradd(client, {})

    assert response.json is not None
    assert response.json["type"] == "/problems/validation_failed"
    assert response.json["status"] == 422
    assert response.json["detail"]
    assert response.json["attempt_id"] == response.headers["X-Request-Id"]
    assert set(response.json["errors"][0]) == {"field", "code", "message"}


def test_an_internal_error_is_a_generic_response_and_a_recorded_attempt(
    client: FlaskClient, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail postgresql://user:password@host")

    monkeypatch.setattr("project.services.registration.queries.useradd", fail)

    response = useradd(client, ANNA)

    assert (response.status_code, response.json["code"]) == (500, "internal_error")  # type: ignore[index]
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert rows.outcomes() == [(500, "internal_error")]


def test_no_cross_origin_request_is_allowed(client: FlaskClient) -> None:
    response = useradd(client, ANNA, headers={"Origin": "https://evil.example"})

    assert not [name for name, _ in response.headers if name.lower().startswith("access-control")]


def test_a_form_from_another_site_is_refused(client: FlaskClient) -> None:
    response = client.post(
        ADDRESS, data='{"name": "N", "username": "u", "email": "u@example.org"}', content_type="text/plain"
    )

    assert response.status_code == 415


@pytest.mark.parametrize("request_id", ["a\u2028b", "x" * 200, "a b"])
def test_an_unsafe_client_request_id_is_not_stored(client: FlaskClient, rows: Rows, request_id: str) -> None:
    useradd(client, ANNA, headers={"X-Request-Id": request_id.encode().decode("latin-1")})

    assert rows.attempts()[0]["client_request_id"] is None


def test_double_slashes_do_not_redirect(client: FlaskClient) -> None:
    response = client.post("/api//v1/useradd/", json=ANNA)

    assert response.status_code == 404


def test_a_request_that_waited_too_long_for_a_thread_is_refused_and_recorded(
    client: FlaskClient, runtime: Runtime, rows: Rows
) -> None:
    response = useradd(client, ANNA, environ_overrides={RECEIVED: time.monotonic() - 1})
    Delivery(runtime.database).drain(runtime.spool)

    assert (response.status_code, response.json["code"]) == (503, "overloaded")  # type: ignore[index]
    assert response.json["idempotency_key"]  # type: ignore[index]
    assert 1 <= int(response.headers["Retry-After"]) <= 3
    [row] = rows.attempts()
    assert (row["status"], row["code"], row["via"]) == (503, "overloaded", "spool")
    assert 1000 <= row["duration_ms"] < 5000


def test_a_request_is_refused_when_no_permit_is_free(
    client: FlaskClient, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.database, "_permits", FairSemaphore(0))

    response = useradd(client, ANNA)

    assert (response.status_code, response.json["code"]) == (503, "overloaded")  # type: ignore[index]
