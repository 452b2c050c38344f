"""Statistics and attempts as JSON, and their part of the OpenAPI document."""

from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from sqlalchemy import literal_column

from project.queries import filters
from tests.builders import ADDRESS, ANNA, IVAN, KEY, useradd
from tests.functional.attempts import ago, keep

ABSENT = "/api/v1/attempts/0190b0e5-0000-7000-8000-000000000000/"


def get(reader: FlaskClient, address: str, status: int = 200) -> dict[str, Any]:
    """Return the JSON response of an address."""
    response = reader.get(address)
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.get_json(force=True)
    return found


@pytest.mark.parametrize("address", ["/api/v1/stats/", "/api/v1/attempts/", ABSENT])
def test_anonymous_clients_get_401(client: FlaskClient, address: str) -> None:
    response = client.get(address)

    assert response.status_code == 401
    assert response.mimetype == "application/problem+json"
    assert response.get_json(force=True)["code"] == "unauthorized"


def test_statistics_without_a_filter_cover_all_attempts(reader: FlaskClient, app: Flask) -> None:
    keep(app, datetime(2026, 3, 9, 9, tzinfo=UTC), status=422, code="invalid_phone")
    keep(app, ago(minutes=2), status=503, code="database_unavailable")
    keep(app, ago(minutes=1), status=200, code="dry_run")

    stats = get(reader, "/api/v1/stats/")

    assert stats["period"]["from"] == "2026-03-09T12:00:00+03:00"
    assert stats["period"]["zone"] == "Europe/Moscow"
    assert {name: stats[name] for name in ("total", "created", "rejected", "failed", "unchanged")} == {
        "total": 4, "created": 1, "rejected": 1, "failed": 1, "unchanged": 1,
    }  # fmt: skip
    assert {row["status"]: row["count"] for row in stats["by_status"]} == {201: 1, 422: 1, 503: 1, 200: 1}
    assert stats["by_code"] == [
        {"code": "database_unavailable", "status": 503, "count": 1},
        {"code": "invalid_phone", "status": 422, "count": 1},
    ]
    assert sum(bucket["rejected"] for bucket in stats["series"]) == 1
    assert stats["series"][0]["from"] <= stats["period"]["from"]


def test_statistics_accept_the_filters_of_the_page(reader: FlaskClient, app: Flask) -> None:
    keep(app, datetime(2026, 3, 9, 9, tzinfo=UTC), status=422, code="invalid_phone")
    keep(app, ago(days=20), status=422, code="invalid_phone")

    stats = get(reader, "/api/v1/stats/?period=30d&code=invalid_phone&tz=UTC")

    assert (stats["total"], stats["period"]["zone"]) == (1, "UTC")


def test_statistics_without_matches_are_zero(reader: FlaskClient) -> None:
    stats = get(reader, "/api/v1/stats/?q=nobody")

    assert (stats["total"], stats["series"], stats["period"]["from"]) == (0, [], None)


def test_an_attempt_has_the_fields_of_the_contract(reader: FlaskClient) -> None:
    answer = useradd(reader, {"name": "Иван", "username": "petrov", "phone": "+7 999 123-4"})

    attempt = get(reader, f"/api/v1/attempts/{answer.headers['X-Request-Id']}/")

    assert datetime.fromisoformat(attempt.pop("received_at")).utcoffset() is not None
    assert attempt.pop("duration_ms") >= 0
    assert attempt == {
        "id": answer.headers["X-Request-Id"],
        "status": 422,
        "answered": 422,
        "outcome": "rejected",
        "code": "invalid_phone",
        "errors": [{"field": "phone", "code": "invalid_phone"}],
        "username": "petrov",
        "phone": "+• ••• ••3-4",
        "email": None,
        "via": "direct",
    }


def test_the_code_of_an_attempt_is_the_one_by_which_it_is_counted_and_filtered(reader: FlaskClient) -> None:
    key = {"headers": {"Idempotency-Key": KEY}}
    useradd(reader, ANNA, **key)
    useradd(reader, ANNA, **key)
    useradd(reader, ANNA)
    useradd(reader, {"name": "x", "username": "y", "phone": "1", "email": "z"})
    reader.post(f"{ADDRESS}?dryRun=1", json=ANNA)
    reader.post(f"{ADDRESS}?dry_run=1", json=IVAN | {"username": "other"})
    reader.get(ADDRESS)

    items = get(reader, "/api/v1/attempts/?limit=100")["attempts"]
    counted = {row["code"]: row["count"] for row in get(reader, "/api/v1/stats/")["by_code"]}

    codes = [item["code"] for item in reversed(items)]
    assert codes == [
        "created", "created", "replayed", "username_taken", "invalid_phone", "unknown_parameter", "dry_run",
        "method_not_allowed",
    ]  # fmt: skip
    for code in codes:
        found = get(reader, f"/api/v1/attempts/?code={code}")["attempts"]
        assert found == [item for item in items if item["code"] == code]
        assert counted.get(code, len(found)) == len(found)
    assert counted.keys() == {"username_taken", "invalid_phone", "unknown_parameter", "method_not_allowed"}


@pytest.mark.parametrize(("code", "found"), [("validation_failed", ["invalid_phone"]), ("conflict", ["email_taken"])])
def test_codes_of_problem_documents_filter_by_all_reasons_in_fields(
    reader: FlaskClient, app: Flask, code: str, found: list[str]
) -> None:
    keep(app, ago(minutes=3), status=422, code="invalid_phone")
    keep(app, ago(minutes=2), status=409, code="email_taken")
    keep(app, ago(minutes=1), status=400, code="malformed_json")

    items = get(reader, f"/api/v1/attempts/?code={code}")["attempts"]

    assert [item["code"] for item in items] == found
    assert get(reader, f"/api/v1/stats/?code={code}")["total"] == 1


def test_an_absent_attempt_is_404(reader: FlaskClient) -> None:
    assert get(reader, ABSENT, 404)["code"] == "not_found"


def test_attempts_are_returned_in_pages(reader: FlaskClient, app: Flask) -> None:
    for number in range(24):
        keep(app, ago(minutes=number + 1), username=f"u{number:02}", status=422, code="blank")

    pages = [get(reader, "/api/v1/attempts/?limit=10&result=rejected&period=7d")]
    while following := pages[-1]["next"]:
        pages.append(get(reader, following))

    assert [len(page["attempts"]) for page in pages] == [10, 10, 4]
    seen = [attempt["username"] for page in pages for attempt in page["attempts"]]
    assert seen == [f"u{number:02}" for number in range(24)]


def test_a_page_has_25_attempts_of_all_time_by_default(reader: FlaskClient, app: Flask) -> None:
    for number in range(30):
        keep(app, ago(days=100, minutes=number))

    page = get(reader, "/api/v1/attempts/")

    assert len(page["attempts"]) == 25
    assert len(get(reader, page["next"])["attempts"]) == 6
    assert len(get(reader, "/api/v1/attempts/?limit=100")["attempts"]) == 31


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("before=x", "before"),
        ("code=nonsense", "code"),
        ("result=good", "result"),
        ("status=700", "status"),
        ("period=century", "period"),
        ("from=2026-02-30", "from"),
    ],
)
def test_unknown_parameter_values_are_refused(reader: FlaskClient, query: str, name: str) -> None:
    problem = get(reader, f"/api/v1/attempts/?{query}", 400)

    assert problem["code"] == "unknown_parameter"
    assert f"«{name}»" in problem["detail"]


def test_a_period_that_ends_before_it_starts_is_refused(reader: FlaskClient) -> None:
    problem = get(reader, "/api/v1/stats/?from=2026-03-10&to=2026-03-01", 400)

    assert problem["detail"] == "Конец периода раньше его начала: «from» должно быть не позже «to»."


@pytest.mark.parametrize(
    ("address", "path", "parameters"),
    [
        ("/api/v1/stats/", "/api/v1/stats/", ""),
        ("/api/v1/attempts/", "/api/v1/attempts/", "?limit=2"),
        ("/api/v1/attempts/{id}/", "/api/v1/attempts/{attempt_id}/", ""),
    ],
)
def test_responses_match_the_openapi_document(reader: FlaskClient, address: str, path: str, parameters: str) -> None:
    useradd(reader, {"name": "x", "username": "y"})
    refused = useradd(reader, {"name": "x", "username": "y"}).headers["X-Request-Id"]
    document = get(reader, "/openapi.json")

    answer = get(reader, address.format(id=refused) + parameters)

    content = document["paths"][path]["get"]["responses"]["200"]["content"]
    schema = content["application/json"]["schema"]
    Draft202012Validator(_json_schema({**schema, "components": document["components"]})).validate(answer)


def _json_schema(schema: Any) -> Any:
    """Convert an OpenAPI 3.0 schema to JSON Schema that forbids undocumented properties."""
    if isinstance(schema, list):
        return [_json_schema(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _json_schema(value) for name, value in schema.items()}
    if found.pop("nullable", False):
        found["type"] = [found["type"], "null"]
    if isinstance(found.get("properties"), dict) and found.get("type") == "object":
        found["additionalProperties"] = False
    return found


@pytest.mark.slow
@pytest.mark.parametrize("address", ["/api/v1/stats/?q=some", "/api/v1/attempts/?q=some", "/results/export.csv?q=some"])
def test_a_search_that_is_too_broad_is_refused(
    reader: FlaskClient, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(filters, "search_conditions", lambda _: [literal_column("(select 1 from pg_sleep(9)) = 1")])

    problem = get(reader, address, 400)

    assert problem["code"] == "bad_request"
    assert "сузьте период" in problem["detail"]
