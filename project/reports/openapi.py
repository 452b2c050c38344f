"""What the reports door adds to the OpenAPI document."""

from typing import Any

from apispec import APISpec

from project.contract.openapi import problem_responses
from project.domain.attempts import Outcome
from project.presentation.selection import KNOWN_CODES, PERIODS
from project.reports.exports import TYPES

Security = list[dict[str, list[str]]]
SESSION: Security = [{"session": []}]
SESSION_OR_KEY: Security = [*SESSION, {"key": []}]
READING = ("bad_request", "unauthorized", "database_unavailable", "overloaded")


def describe(spec: APISpec) -> None:
    """Add statistics, attempts and downloads."""
    spec.components.schema("Stats", _STATS)
    spec.components.schema("Attempt", _ATTEMPT)
    spec.components.schema("Attempts", _ATTEMPTS)
    _add(spec, "/api/v1/stats/", "stats", "Numbers; without a period they count everything", _filter("all"), "Stats")
    paging = [_query("before", "Only attempts older than this one", _UUID), _LIMIT]
    _add(spec, "/api/v1/attempts/", "attempts", "Attempts, newest first", [*_filter("all"), *paging], "Attempts")
    number = {"name": "attempt_id", "in": "path", "required": True, "schema": _UUID}
    _add(spec, "/api/v1/attempts/{attempt_id}/", "attempt", "One attempt", [number], "Attempt", "not_found")
    for ending, media_type in TYPES.items():
        _add_file(spec, f"/results/export.{ending}", f"export_{ending}", media_type)
    for ending in ("txt", "xlsx"):
        _add_file(spec, f"/api/v1/download-{ending}/", f"download_{ending}", TYPES[ending])


def _add(
    spec: APISpec, path: str, name: str, summary: str, parameters: list[dict[str, Any]], schema: str, *codes: str
) -> None:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    found = {"description": "OK", "content": content}
    _describe(spec, path, name, summary, parameters, {"200": found}, *codes, security=SESSION_OR_KEY)


def _add_file(spec: APISpec, path: str, name: str, media_type: str) -> None:
    content = {media_type.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}}}
    disposition = {"description": "`attachment` with an ASCII file name", "schema": _TEXT}
    found = {"description": "The file", "headers": {"Content-Disposition": disposition}, "content": content}
    away = {"description": "Nobody is logged in: to the login page", "headers": {"Location": {"schema": _TEXT}}}
    summary = "The attempts of the filter as a file, in the zone and language of the reader"
    _describe(spec, path, name, summary, _filter("7d"), {"200": found, "302": away}, "exports_busy", "rate_limited")


def _describe(
    spec: APISpec,
    path: str,
    name: str,
    summary: str,
    parameters: list[dict[str, Any]],
    responses: dict[str, Any],
    *codes: str,
    security: Security = SESSION,
) -> None:
    operation = {
        "operationId": name,
        "tags": ["statistics"],
        "summary": summary,
        "security": security,
        "parameters": parameters,
        "responses": responses | problem_responses((*READING, *codes)),
    }
    spec.path(path, operations={"get": operation})


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _filter(period: str) -> list[dict[str, Any]]:
    """Return the parameters of the filter, which are those of the results page."""
    return [
        _query(
            "period", "`dates` goes by `from` and `to`", {"type": "string", "enum": list(PERIODS), "default": period}
        ),
        _query("from", "First day, or moment, in the shown zone", {"type": "string", "example": "2026-11-17"}),
        _query("to", "Last day, or the moment before which it ends", {"type": "string", "example": "2026-11-23"}),
        _many("result", "Outcomes", {"type": "string", "enum": [outcome.value for outcome in Outcome]}),
        _many("code", "Reasons", {"type": "string", "enum": sorted(KNOWN_CODES)}),
        _many("status", "HTTP statuses", {"type": "integer", "example": 422}),
        _query("q", "Part of a login, `=` and all of it, a whole phone or e-mail, a request's number", _TEXT),
        _query("tz", "`UTC`: times in UTC, else in the zone of the service", {"type": "string", "enum": ["UTC"]}),
    ]


def _many(name: str, description: str, item: dict[str, Any]) -> dict[str, Any]:
    return {**_query(name, description, {"type": "array", "items": item}), "style": "form", "explode": True}


_TEXT: dict[str, Any] = {"type": "string"}
_NULLABLE: dict[str, Any] = {"type": "string", "nullable": True}
_UUID: dict[str, Any] = {"type": "string", "format": "uuid"}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
_NUMBER: dict[str, Any] = {"type": "integer"}
_LIMIT = _query("limit", "How many", {"type": "integer", "minimum": 1, "maximum": 100, "default": 25})
_COUNTS = {outcome.value: _NUMBER for outcome in (Outcome.CREATED, Outcome.REJECTED, Outcome.FAILED, Outcome.UNCHANGED)}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _array(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


_STATS = _object(
    period=_object(**{"from": {**_TIME, "nullable": True}, "to": _TIME, "zone": {**_TEXT, "example": "Europe/Moscow"}}),
    total=_NUMBER,
    **_COUNTS,
    by_status=_array(_object(status=_NUMBER, count=_NUMBER)),
    by_code=_array(_object(code=_TEXT, status=_NUMBER, count=_NUMBER)),
    series=_array(_object(**{"from": _TIME, "to": _TIME}, **_COUNTS)),
)
_ATTEMPT = _object(
    id=_UUID,
    received_at=_TIME,
    status={"type": "integer", "description": "What happened; 0: the service died before it could answer"},
    answered={"type": "integer", "nullable": True, "description": "What the client was told"},
    outcome={"type": "string", "enum": [outcome.value for outcome in Outcome]},
    code={**_TEXT, "description": "`created`, or the code of the problem document", "example": "validation_failed"},
    errors=_array(_object(field=_TEXT, code={**_TEXT, "example": "invalid_phone"})),
    username=_NULLABLE,
    phone={**_NULLABLE, "description": "Masked", "example": "+7 999 •••-••-6"},
    email={**_NULLABLE, "description": "Masked"},
    duration_ms=_NUMBER,
    via={"type": "string", "enum": ["direct", "spool", "recovered"]},
)
_ATTEMPTS = _object(
    attempts=_array({"$ref": "#/components/schemas/Attempt"}),
    next={**_NULLABLE, "description": "Address of the following page, null on the last one"},
)
