"""Builds the OpenAPI document, to which each blueprint adds its endpoints, and serves it."""

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.field_converter import DEFAULT_FIELD_MAPPING
from flasgger import Swagger
from flask import Flask, abort
from flask.typing import ResponseReturnValue
from marshmallow import fields

from project.contract.error_codes import PROBLEMS, detail_text
from project.contract.problems import MEDIA_TYPE
from project.contract.responses import COMPONENTS, PROBLEM_SCHEMA, ResponseSchema, problem_members
from project.contract.schemas import UserAddSchema
from project.http.guards import public
from project.version import VERSION

SWAGGER_UI_FOLDER = Path(__file__).parents[1] / "static" / "vendor" / "swagger-ui"
DESCRIPTION = """
Creates users and records every request as an *attempt*, whatever its outcome.

Every error is a problem document (RFC 9457, `application/problem+json`) with a stable `code`. Texts follow
`Accept-Language` (`ru`, `en`). Every response has an `X-Request-Id`.
""".strip()

TAGS = [
    {"name": "users", "description": "Creation of users"},
    {"name": "statistics", "description": "Attempts, their totals, and downloads"},
    {"name": "health", "description": "State of the instance, for probes and monitoring"},
]
REFUSED_BY_SERVER = ("request_timeout", "head_too_large", "transfer_coding_not_supported", "http_version_not_supported")
"""Codes with which the HTTP server refuses requests to any address before the application gets them."""
DescribeEndpoints = Callable[[APISpec], None]
"""A function that adds the endpoints of a blueprint to the OpenAPI document."""


def init_app(app: Flask, describers: Iterable[DescribeEndpoints]) -> None:
    """Serve /openapi.json and /swagger/ through flasgger, without login.

    flasgger ships a Swagger UI of 2020 with a known DOM XSS, and pages that need inline scripts. This project has its
    own page and current files of Swagger UI instead; other routes of flasgger respond with 404.
    """
    with app.test_request_context(headers={"Accept-Language": "en"}):
        document = build_document(describers)
    excluded = dict.fromkeys(("rule_filter", "model_filter"), _exclude_all)
    Swagger(
        app,
        template=copy.deepcopy(document),  # flasgger modifies its template
        config={
            "headers": [],
            "openapi": document["openapi"],
            "specs_route": "/swagger/",
            "static_folder": str(SWAGGER_UI_FOLDER),
            "static_url_path": "/swagger/assets",
            "specs": [{"endpoint": "openapi", "route": "/openapi.json"} | excluded],
        },
    )
    for rule in app.url_map.iter_rules():
        if rule.endpoint in {"flasgger.openapi", "flasgger.apidocs"}:
            public(app.view_functions[rule.endpoint])
        elif rule.endpoint.startswith("flasgger."):
            app.view_functions[rule.endpoint] = _not_found


def build_document(describers: Iterable[DescribeEndpoints]) -> dict[str, Any]:
    """Build the OpenAPI document from shared components and the endpoints of blueprints.

    The texts of examples are in the current language.
    """
    spec = APISpec(
        title="useradd",
        version=VERSION,
        openapi_version="3.0.3",
        info={"description": DESCRIPTION, "license": {"name": "MIT", "url": "https://opensource.org/license/mit"}},
        plugins=[MarshmallowPlugin()],
        servers=[{"url": "/"}],
        tags=TAGS,
    )
    spec.components.schema("Problem", json_schema(PROBLEM_SCHEMA))
    properties = spec.components.schemas["Problem"]["properties"]
    for name in ("recorded", "errors"):  # last, as in tests/functional/golden/openapi.json
        properties[name] = properties.pop(name)
    spec.components.schema("NewUser", schema=UserAddSchema)
    for schema in COMPONENTS:
        spec.components.schema(schema.component, json_schema(schema))
    spec.components.security_scheme("session", {"type": "apiKey", "in": "cookie", "name": "session"})
    spec.components.security_scheme(
        "key", {"type": "http", "scheme": "bearer", "description": "API key, created by an administrator"}
    )
    for describe in describers:
        describe(spec)
    document = spec.to_dict()
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"] |= describe_problems(REFUSED_BY_SERVER)
    return document


def describe_response(description: str, schema: ResponseSchema, **members: Any) -> dict[str, Any]:
    """Return the OpenAPI description of a JSON response with this schema.

    `members` are further members of the description, such as `headers`.
    """
    content = _reference(schema) if schema.component else json_schema(schema)
    if "required" in content:
        content["required"] = content.pop("required")  # last, as in tests/functional/golden/openapi.json
    return {"description": description, **members, "content": {"application/json": {"schema": content}}}


def describe_parameter(name: str, description: str, schema: dict[str, Any], location: str = "query") -> dict[str, Any]:
    """Return the OpenAPI description of a parameter in `location`, such as `query` or `header`."""
    return {"name": name, "in": location, "description": description, "schema": schema}


def describe_problems(codes: Iterable[str]) -> dict[str, Any]:
    """Return OpenAPI descriptions of problem documents by status, with an example per code."""
    responses: dict[str, Any] = {}
    for code in codes:
        problem = PROBLEMS[code]
        content = {MEDIA_TYPE: {"schema": _reference(PROBLEM_SCHEMA), "examples": {}}}
        response = responses.setdefault(str(problem.status), {"description": "", "content": content})
        response["description"] = " / ".join(filter(None, (response["description"], f"`{code}`")))
        if problem.is_retryable:
            response["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
        response["content"][MEDIA_TYPE]["examples"][code] = {"value": _example_problem(code)}
    return responses


def _reference(schema: ResponseSchema) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema.component}"}


def json_schema(schema: ResponseSchema) -> dict[str, Any]:
    """Return the JSON Schema of the responses that a schema serializes."""
    required = [name for name, field in schema.fields.items() if field.required]
    properties = {name: _json_property(field) for name, field in schema.fields.items()}
    return {"type": "object"} | ({"required": required} if required else {}) | {"properties": properties}


def _json_property(field: fields.Field[Any]) -> dict[str, Any]:
    match field:
        case fields.List():
            return {"type": "array", "items": _json_property(field.inner)}
        case fields.Nested(schema=ResponseSchema() as schema):
            return _reference(schema) if schema.component else json_schema(schema)
        case _:
            kind, form = next(
                DEFAULT_FIELD_MAPPING[base] for base in type(field).__mro__ if base in DEFAULT_FIELD_MAPPING
            )
            return ({"type": kind} if kind else {}) | ({"format": form} if form else {}) | dict(field.metadata)


def _example_problem(code: str) -> dict[str, Any]:
    problem = PROBLEMS[code]
    values = problem_members(code, detail_text(code, "", problem.sample), attempt_id=_EXAMPLE_ID)
    if code in _EXAMPLE_ERRORS:
        values["errors"] = [dict(zip(("field", "code", "message"), _EXAMPLE_ERRORS[code], strict=True))]
    return PROBLEM_SCHEMA.dump(values)


def _exclude_all(_: object) -> bool:
    return False


@public
def _not_found(**_: Any) -> ResponseReturnValue:
    abort(404)


_EXAMPLE_ID = "01936b4e-2f6a-7c3e-9b1d-5a8f0c2e4d61"
_EXAMPLE_ERRORS = {
    "validation_failed": (
        "phone",
        "invalid_phone",
        "The number is too short. Check for a missing digit or area code. Example: +7 999 123-45-67.",
    ),
    "conflict": ("username", "username_taken", "This username is taken. Choose another one."),
}
