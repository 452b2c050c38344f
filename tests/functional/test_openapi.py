"""The OpenAPI document is valid, complete, and matches the service."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import OpenAPIV30SpecValidator
from werkzeug.test import TestResponse

from project.contract.error_codes import FIELD_CODES, PROBLEMS
from tests.builders import ADDRESS, ANNA, KEY, useradd
from tests.conftest import MakeApp, Rows
from tests.functional.recorder import FOLDER

Document = dict[str, Any]

ELSEWHERE = {"forbidden", "not_found", "exports_busy", "too_many"}
"""Codes that POST /useradd never returns."""
REFUSED_BY_SERVER = {"408", "431", "501", "505"}
STATUSES = {
    ADDRESS: {"200", "201", "400", "401", "405", "409", "413", "415", "422", "429", "500", "503"},
    "/api/v1/useradd/bulk/": {"200", "400", "401", "405", "413", "415", "429", "500", "503"},
    "/api/v1/stats/": {"200", "400", "401", "503"},
    "/api/v1/attempts/": {"200", "400", "401", "503"},
    "/api/v1/attempts/{attempt_id}/": {"200", "400", "401", "404", "503"},
    "/api/v1/download-txt/": {"200", "400", "401", "429", "503"},
    "/api/v1/download-xlsx/": {"200", "400", "401", "429", "503"},
    "/results/export.txt": {"200", "302", "400", "401", "429", "503"},
    "/results/export.csv": {"200", "302", "400", "401", "429", "503"},
    "/results/export.xlsx": {"200", "302", "400", "401", "429", "503"},
    "/livez": {"200"},
    "/readyz": {"200", "503"},
    "/status": {"200"},
}
JSON = "application/json"
ANSWERS: dict[str, dict[str, Any]] = {
    "unknown_parameter": {"query_string": "dryRun=true", "json": ANNA},
    "malformed_json": {"data": b"{", "content_type": JSON},
    "body_not_object": {"data": b"[]", "content_type": JSON},
    "bad_idempotency_key": {"json": ANNA, "headers": {"Idempotency-Key": "short"}},
    "bad_request": {"query_string": "dry_run&dry_run", "json": ANNA},
    "unknown_host": {"json": ANNA, "headers": {"Host": "evil.example"}},
    "method_not_allowed": {"method": "GET"},
    "body_too_large": {"data": b" " * 20_000, "content_type": JSON},
    "unsupported_media_type": {"data": b"{}", "content_type": "text/plain"},
    "validation_failed": {"json": {}},
}


@pytest.fixture
def document(client: FlaskClient) -> Document:
    """The served document."""
    found: Document = client.get("/openapi.json").get_json()
    return found


def test_the_document_is_valid(document: Document) -> None:
    assert document["openapi"].startswith("3.0.")
    assert [error.message for error in OpenAPIV30SpecValidator(document).iter_errors()] == []


def test_every_code_of_useradd_is_in_the_document_with_an_example(document: Document) -> None:
    shown = {example["code"] for example in _problems(document, ADDRESS)}

    assert shown == PROBLEMS.keys() - ELSEWHERE


@pytest.mark.parametrize("path", STATUSES)
def test_every_status_of_an_address_is_in_the_document(document: Document, path: str) -> None:
    [operation] = document["paths"][path].values()

    assert set(operation["responses"]) >= STATUSES[path] | REFUSED_BY_SERVER


def test_useradd_has_exactly_the_statuses_of_the_contract(document: Document) -> None:
    assert set(document["paths"][ADDRESS]["post"]["responses"]) == STATUSES[ADDRESS] | REFUSED_BY_SERVER


def test_only_what_a_response_may_lack_is_optional(document: Document) -> None:
    problem = document["components"]["schemas"].pop("Problem")
    del document["components"]["schemas"]["NewUser"], document["components"]["schemas"]["Line"]
    objects = [schema for schema in _schemas(document) if schema["type"] == "object"]

    optional = {name for schema in objects for name in schema["properties"] if name not in schema["required"]}

    assert len(objects) > 15
    assert optional == {"recorded", "replica"}
    assert problem["properties"]["errors"]["items"]["required"] == ["field", "code", "message"]


def test_codes_of_fields_are_an_enumeration(document: Document) -> None:
    errors = document["components"]["schemas"]["Problem"]["properties"]["errors"]["items"]

    assert errors["properties"]["code"]["enum"] == sorted(FIELD_CODES)


def test_only_the_workbook_is_binary(document: Document) -> None:
    contents = [operation["responses"]["200"]["content"] for _, operation in _operations(document)]
    formats = {kind: content["schema"].get("format") for one in contents for kind, content in one.items()}

    binary = [kind for kind, form in formats.items() if form == "binary"]

    assert {"text/plain", "text/csv"} <= formats.keys()
    assert binary == ["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"]


def test_a_key_comes_before_a_session_as_programs_have_no_session(document: Document) -> None:
    schemes = [
        [name for one in operation.get("security", []) for name in one] for _, operation in _operations(document)
    ]

    assert ["key", "session"] in schemes
    assert ["session", "key"] not in schemes


def test_every_path_of_the_document_is_in_this_list(document: Document) -> None:
    assert document["paths"].keys() == STATUSES.keys()


def test_the_example_request_is_accepted(client: FlaskClient, document: Document) -> None:
    body = document["paths"][ADDRESS]["post"]["requestBody"]["content"][JSON]

    _check(document, body["schema"], body["example"])
    assert useradd(client, body["example"]).status_code == 201


def test_the_examples_of_fields_are_accepted_together(client: FlaskClient, document: Document) -> None:
    fields = document["components"]["schemas"]["NewUser"]["properties"]

    response = useradd(client, {name: field["example"] for name, field in fields.items()})

    assert response.status_code == 201


def test_required_fields_of_the_document_are_required_by_the_service(client: FlaskClient, document: Document) -> None:
    required = document["components"]["schemas"]["NewUser"]["required"]

    wrong = [error["field"] for error in useradd(client, {"phone": ANNA["phone"]}).get_json()["errors"]]

    assert wrong == required


def test_length_limits_of_the_document_are_those_of_the_service(client: FlaskClient, document: Document) -> None:
    fields = document["components"]["schemas"]["NewUser"]["properties"]

    for name in ("name", "username"):
        length = fields[name]["maxLength"]
        statuses = [useradd(client, {**ANNA, name: "x" * size}).status_code for size in (length, length + 1)]
        assert statuses[1] == 422, name
        assert statuses[0] in {201, 409}, name


@pytest.mark.parametrize("path", STATUSES)
def test_every_example_of_a_problem_matches_its_schema(document: Document, path: str) -> None:
    for example in _problems(document, path):
        _check(document, {"$ref": "#/components/schemas/Problem"}, example)


def test_every_example_of_a_value_matches_its_schema(document: Document) -> None:
    schemas = [schema for schema in _schemas(document) if "example" in schema]

    assert len(schemas) > 10
    for schema in schemas:
        _check(document, schema, schema["example"])


def test_examples_of_problems_are_english_without_placeholders(document: Document) -> None:
    for path in STATUSES:
        for example in _problems(document, path):
            text = json.dumps(example, ensure_ascii=False)
            assert "%(" not in text
            assert not any("а" <= letter <= "я" for letter in text), text


@pytest.mark.parametrize("code", ANSWERS)
def test_a_refusal_matches_the_document(client: FlaskClient, document: Document, code: str) -> None:
    response = client.open(ADDRESS, **({"method": "POST"} | ANSWERS[code]))

    assert response.get_json(force=True)["code"] == code
    _check_answer(document, response)


def test_successes_and_conflicts_match_the_document(client: FlaskClient, document: Document) -> None:
    dry_run = client.post(f"{ADDRESS}?dry_run=true", json=ANNA)
    created = useradd(client, ANNA, headers={"Idempotency-Key": KEY})
    replayed = useradd(client, ANNA, headers={"Idempotency-Key": KEY})
    conflict = useradd(client, ANNA)
    reused = useradd(client, {**ANNA, "name": "Another"}, headers={"Idempotency-Key": KEY})

    responses = (dry_run, created, replayed, conflict, reused)
    assert [response.status_code for response in responses] == [200, 201, 201, 409, 422]
    for response in responses:
        _check_answer(document, response)


@pytest.mark.parametrize("language", ["ru", "en"])
def test_every_golden_response_fits_the_document(document: Document, language: str) -> None:
    components = _closed(document["components"])
    checked = 0

    for block in (FOLDER / f"answers-{language}.txt").read_text(encoding="utf-8").split("##### ")[1:]:
        head, _, body = block.partition("\n\n")
        method, address = head.split()[:2]
        if "\nContent-Type: application/" not in head or not body.strip() or address == "/openapi.json":
            continue
        schema = {"$ref": "#/components/schemas/Problem"}
        if JSON in head:
            path = address.partition("?")[0].replace("UUID", "{attempt_id}")
            path = ADDRESS if path == "/useradd" else path
            status = head.split("\n")[1].split()[0]
            schema = _closed(document["paths"][path][method.lower()]["responses"][status]["content"][JSON]["schema"])
        errors = OAS30Validator({**schema, "components": components}).iter_errors(json.loads(body))
        assert [error.message for error in errors] == [], head
        checked += 1

    assert checked > 50


@pytest.mark.parametrize(("query", "body"), [("?dry_run=1", ANNA), ("", {})])
def test_a_response_to_an_unrecorded_attempt_matches_the_document(
    client: FlaskClient, document: Document, monkeypatch: pytest.MonkeyPatch, query: str, body: dict[str, Any]
) -> None:
    monkeypatch.setattr("project.services.attempts.record_attempt", lambda *_, **__: False)

    response = client.post(f"{ADDRESS}{query}", json=body)

    assert response.get_json(force=True)["recorded"] is False
    _check_answer(document, response)


def test_retry_after_is_documented_for_exactly_the_retryable_codes(document: Document) -> None:
    for path, operation in _operations(document):
        for status, response in operation["responses"].items():
            examples = _examples(response)
            is_retryable = any(PROBLEMS[example["code"]].is_retryable for example in examples)
            assert ("Retry-After" in response.get("headers", {})) == is_retryable, (path, status)


@pytest.mark.parametrize("language", ["ru", "en"])
def test_another_application_serves_the_same_document(
    make_app: MakeApp, document: Document, language: str, tmp_path: Path
) -> None:
    another = make_app(default_language=language, data_dir=tmp_path).test_client()

    response = another.get("/openapi.json", headers={"Accept-Language": language})

    assert response.get_json() == document
    assert another.get("/openapi.json").data == response.data


@pytest.mark.parametrize(
    "address",
    [
        "/apidocs/",
        "/apidocs/index.html",
        "/apispec_1.json",
        "/apispec.json",
        "/flasgger_static/swagger-ui-bundle.js",
        "/flasgger_static/swagger-ui.css",
        "/flasgger_static/lib/jquery.min.js",
        "/oauth2-redirect.html",
        "/swagger/assets/swagger-ui-bundle.js",
    ],
)
def test_addresses_of_flasgger_are_not_found(client: FlaskClient, address: str) -> None:
    assert client.get(address).status_code == 404


def test_reading_the_document_records_no_attempt(client: FlaskClient, rows: Rows) -> None:
    client.get("/openapi.json")
    client.get("/swagger/")

    assert rows.attempts() == []


def _check(document: Document, schema: Document, value: object) -> None:
    """Assert that a value matches an OpenAPI 3.0 schema, including formats."""
    validator = OAS30Validator(
        {**schema, "components": document["components"]}, format_checker=OAS30Validator.FORMAT_CHECKER
    )
    assert [error.message for error in validator.iter_errors(value)] == []


def _check_answer(document: Document, response: TestResponse) -> None:
    """Assert that a response matches its schema and has no undocumented fields."""
    content = document["paths"][ADDRESS]["post"]["responses"][str(response.status_code)]["content"]
    closed = {"components": _closed(document["components"])}
    _check(closed, content[response.mimetype or ""]["schema"], response.get_json(force=True))


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {name: _closed(value) for name, value in node.items()}
    return found | ({"additionalProperties": False} if isinstance(node.get("properties"), dict) else {})


def _operations(document: Document) -> list[tuple[str, Document]]:
    return [(path, operation) for path, methods in document["paths"].items() for operation in methods.values()]


def _problems(document: Document, path: str) -> list[Document]:
    [operation] = document["paths"][path].values()
    return [example for response in operation["responses"].values() for example in _examples(response)]


def _examples(response: Document) -> list[Document]:
    contents = response.get("content", {}).values()
    return [example["value"] for content in contents for example in content.get("examples", {}).values()]


def _schemas(node: Any) -> Iterator[Document]:
    """Yield all schemas of the document."""
    if isinstance(node, dict):
        if "type" in node and not isinstance(node["type"], dict):
            yield node
        yield from (found for value in node.values() for found in _schemas(value))
    elif isinstance(node, list):
        yield from (found for value in node for found in _schemas(value))
