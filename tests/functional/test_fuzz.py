"""Any request gets a documented response, and every call of /useradd is recorded."""

import json
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS, load_all_checks

from tests.builders import ADDRESS, ANNA
from tests.conftest import Rows

pytestmark = pytest.mark.slow
load_all_checks()
CONFORMS: list[Any] = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)
"""Schemathesis checks except positive_data_acceptance: a schema cannot describe valid phones and logins."""
Case = schemathesis.Case[Any]

BULK = "/api/v1/useradd/bulk/"
READING = (
    "/api/v1/stats/",
    "/api/v1/attempts/",
    "/api/v1/attempts/{attempt_id}/",
    "/api/v1/download-txt/",
    "/api/v1/download-xlsx/",
    "/results/export.txt",
    "/results/export.csv",
    "/results/export.xlsx",
)
WITHOUT_PARAMETERS = ("/livez", "/readyz", "/status")
MODES = list(schemathesis.GenerationMode)
"""Requests that match the document, and requests that do not."""

VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(list(ANNA.values()))
NESTED = st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
OBJECTS = st.dictionaries(st.sampled_from([*ANNA, "phne", "is_admin"]) | st.text(), NESTED)
TEXTS = st.one_of(OBJECTS, OBJECTS.map(lambda body: ANNA | body), NESTED).map(json.dumps)
BODIES = st.one_of(
    st.binary(),
    TEXTS.map(str.encode),
    TEXTS.map(lambda text: text.encode("utf-16")),
    st.builds(lambda text, cut: text.encode()[:cut], TEXTS, st.integers(0, 40)),
)
JSON = ["application/json", "application/json; charset=utf-8", "application/vnd.x+json", "APPLICATION/JSON"]
MEDIA_TYPES = st.sampled_from([*JSON, "text/plain"]) | st.text(st.characters(min_codepoint=32, max_codepoint=126))
HEADERS = st.dictionaries(
    st.sampled_from(["Accept", "Accept-Language", "Content-Encoding", "Idempotency-Key", "User-Agent", "X-Request-Id"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=255)),
)


def reproducible(examples: int) -> settings:
    """Return settings for reproducible runs without a time limit."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


@pytest.fixture(scope="module")
def schema(app: Flask) -> schemathesis.BaseSchema:
    """The schema of the service's OpenAPI document."""
    return schemathesis.openapi.from_wsgi("/openapi.json", app, config=schemathesis.Config())


@pytest.mark.parametrize("mode", MODES)
def test_every_call_of_useradd_gets_a_documented_response_and_records_one_attempt(
    schema: schemathesis.BaseSchema, client: FlaskClient, rows: Rows, mode: schemathesis.GenerationMode
) -> None:
    @reproducible(80)
    @given(case=schema[ADDRESS]["POST"].as_strategy(mode))
    def call(case: Case) -> None:
        before = _count(rows)
        _call(case, client)
        assert _count(rows) == before + 1

    call()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", READING)
def test_every_reading_address_gives_a_documented_response(
    schema: schemathesis.BaseSchema, reader: FlaskClient, path: str, mode: schemathesis.GenerationMode
) -> None:
    @reproducible(15)
    @given(case=schema[path]["GET"].as_strategy(mode))
    def call(case: Case) -> None:
        _call(case, reader)

    call()


def test_every_address_of_the_document_is_tested(schema: schemathesis.BaseSchema) -> None:
    assert set(schema) == {ADDRESS, BULK, *READING, *WITHOUT_PARAMETERS}


@reproducible(150)
@given(body=BODIES, media_type=MEDIA_TYPES, headers=HEADERS)
def test_any_bytes_get_a_response_and_record_one_attempt(
    client: FlaskClient, rows: Rows, body: bytes, media_type: str, headers: dict[str, str]
) -> None:
    before = _count(rows)

    response = client.post(ADDRESS, data=body, content_type=media_type, headers=headers)

    assert response.status_code in {201, 400, 409, 413, 415, 422}
    assert _count(rows) == before + 1
    [row] = rows.query("select answered from attempts order by seq desc limit 1")
    assert row["answered"] == response.status_code


@reproducible(100)
@given(lines=st.lists(BODIES, max_size=4), media_type=st.sampled_from(["application/x-ndjson", *JSON]), headers=HEADERS)
def test_any_lines_get_one_answer_each_in_their_order(
    client: FlaskClient, lines: list[bytes], media_type: str, headers: dict[str, str]
) -> None:
    response = client.post(BULK, data=b"\n".join(lines), content_type=media_type, headers=headers, buffered=True)

    assert response.status_code in {200, 400, 413, 415}
    if response.mimetype == "application/x-ndjson":
        answers = [json.loads(line) for line in response.text.splitlines()]
        numbers = [answer["line"] for answer in answers]
        assert numbers == sorted(set(numbers))
        assert {answer["status"] for answer in answers} <= {200, 201, 400, 409, 422}


def _call(case: Case, client: Any) -> None:
    """Send a request and assert that its response matches the document."""
    case.cookies.clear()  # a generated cookie would replace the session of the reader
    case.validate_response(case.call(session=client, buffered=True), checks=CONFORMS)


def _count(rows: Rows) -> int:
    number: int = rows.query("select count(*) as number from attempts")[0]["number"]
    return number
