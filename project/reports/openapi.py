"""OpenAPI description of statistics, attempts and downloads."""

from collections.abc import Sequence
from typing import Any

from apispec import APISpec

from project.contract.openapi import describe_parameter, describe_problems, describe_response
from project.contract.responses import ATTEMPT_PAGE_SCHEMA, ATTEMPT_SCHEMA, STATS_SCHEMA, ResponseSchema
from project.domain.attempts import Outcome
from project.exporters import RAW_STREAMS
from project.presentation.selection import KNOWN_CODES, PERIODS
from project.reports.exports import MEDIA_TYPES

Json = dict[str, Any]
KEY_OR_SESSION: list[Json] = [{"key": []}, {"session": []}]
_READ_CODES = ("bad_request", "unknown_host", "unknown_parameter", "unauthorized", "database_unavailable", "overloaded")
"""Error codes of every operation in this module."""


def describe_endpoints(spec: APISpec) -> None:
    """Add statistics, attempts and downloads to the OpenAPI document."""
    _add_json(
        spec,
        "/api/v1/stats/",
        "get_stats",  # with `stats`, generated clients have two types StatsPeriod: of a parameter and of a schema
        "Statistics of all attempts, or of a period",
        "Totals of the selected attempts by outcome, status and code, and over time.",
        _filter_parameters("all"),
        STATS_SCHEMA,
    )
    paging = [describe_parameter("before", "Only attempts older than this one", _UUID), _LIMIT]
    _add_json(
        spec,
        "/api/v1/attempts/",
        "attempts",
        "Attempts, newest first",
        "A page of the selected attempts. `next` is the address of the next page.",
        [*_filter_parameters("all"), *paging],
        ATTEMPT_PAGE_SCHEMA,
    )
    path_id = {"name": "attempt_id", "in": "path", "required": True, "schema": _UUID}
    _add_json(
        spec,
        "/api/v1/attempts/{attempt_id}/",
        "attempt",
        "One attempt",
        "The attempt that a response to `POST /useradd` names in `attempt_id`.",
        [path_id, _ZONE],
        ATTEMPT_SCHEMA,
        "not_found",
    )
    for extension, media_type in MEDIA_TYPES.items():
        parameters = [_RAW] if extension in RAW_STREAMS else []
        _add_file(spec, f"/results/export.{extension}", f"export_{extension}", media_type, *parameters)
    for extension in ("txt", "xlsx"):
        _add_file(spec, f"/api/v1/download-{extension}/", f"download_{extension}", MEDIA_TYPES[extension])


def _add_json(
    spec: APISpec,
    path: str,
    name: str,
    summary: str,
    description: str,
    parameters: list[Json],
    schema: ResponseSchema,
    *codes: str,
) -> None:
    responses = {"200": describe_response("OK", schema)}
    _describe(spec, path, name, summary, description, parameters, responses, *codes)


def _add_file(spec: APISpec, path: str, name: str, media_type: str, *parameters: Json) -> None:
    schema = _TEXT if media_type.startswith("text/") else {**_TEXT, "format": "binary"}
    content = {media_type.partition(";")[0]: {"schema": schema}}
    disposition = {"description": "`attachment` with an ASCII file name", "schema": _TEXT}
    ok = {"description": "The file", "headers": {"Content-Disposition": disposition}, "content": content}
    summary = "Selected attempts as a file"
    description = "All rows that `/results/` shows for the same parameters, in the same language and time zone."
    responses = {"200": ok}
    if not path.startswith("/api/"):
        location = {"Location": {"schema": _TEXT}}
        responses["302"] = {
            "description": "A browser without a session is redirected to the login page",
            "headers": location,
        }
    parameters = (*_filter_parameters("7d"), *parameters)
    _describe(spec, path, name, summary, description, parameters, responses, "exports_busy", "rate_limited")


def _describe(
    spec: APISpec,
    path: str,
    name: str,
    summary: str,
    description: str,
    parameters: Sequence[Json],
    responses: Json,
    *codes: str,
) -> None:
    operation = {
        "operationId": name,
        "tags": ["statistics"],
        "summary": summary,
        "description": description,
        "security": KEY_OR_SESSION,
        "parameters": list(parameters),
        "responses": responses | describe_problems((*_READ_CODES, *codes)),
    }
    spec.path(path, operations={"get": operation})


def _filter_parameters(period: str) -> list[Json]:
    return [
        describe_parameter(
            "period",
            "`dates`: the period from `from` to `to`",
            {"type": "string", "enum": list(PERIODS), "default": period},
        ),
        describe_parameter(
            "from", "First day or time, in the time zone of the response", {"type": "string", "example": "2026-11-17"}
        ),
        describe_parameter(
            "to", "Last day, or the time before which the period ends", {"type": "string", "example": "2026-11-23"}
        ),
        _list_parameter("result", "Outcomes", {"type": "string", "enum": [outcome.value for outcome in Outcome]}),
        _list_parameter(
            "code",
            "Codes; `validation_failed` and `conflict` stand for the codes of all invalid or taken fields",
            {"type": "string", "enum": sorted(KNOWN_CODES)},
        ),
        _list_parameter("status", "HTTP statuses", {"type": "integer", "example": 422}),
        describe_parameter(
            "q",
            "Part of a login, `=` and an exact login, a whole phone number or e-mail address, or a request ID",
            _TEXT,
        ),
        _ZONE,
    ]


def _list_parameter(name: str, description: str, item: Json) -> Json:
    return {**describe_parameter(name, description, {"type": "array", "items": item}), "style": "form", "explode": True}


_TEXT: Json = {"type": "string"}
_UUID: Json = {"type": "string", "format": "uuid"}
_RAW = describe_parameter(
    "raw", "`1`: values as they were sent, without an apostrophe before formulas", {"type": "string", "enum": ["1"]}
)
_ZONE = describe_parameter(
    "tz", "`UTC`: times in UTC; default: in the time zone of the service", {"type": "string", "enum": ["UTC"]}
)
_LIMIT = describe_parameter(
    "limit", "Maximum number of attempts", {"type": "integer", "minimum": 1, "maximum": 100, "default": 25}
)
