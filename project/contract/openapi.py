"""The OpenAPI document, which each door describes its part of, and the page that shows it."""

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flasgger import Swagger
from flask import Flask, abort
from flask.typing import ResponseReturnValue

from project.contract.error_codes import PROBLEMS
from project.contract.problems import MEDIA_TYPE
from project.http.guards import public
from project.version import VERSION

UI = Path(__file__).parents[1] / "static" / "vendor" / "swagger-ui"
ABOUT = """
Creates users and keeps every request as an *attempt*, whatever its end.

Every refusal is a problem document (RFC 9457, `application/problem+json`) with a stable `code`; texts follow
`Accept-Language` (`ru`, `en`), codes never do. Each answer carries `X-Request-Id`.
""".strip()

Describe = Callable[[APISpec], None]


def init_app(app: Flask, doors: Iterable[Describe]) -> None:
    """Serve /openapi.json and /swagger/ through flasgger, open to all.

    flasgger brings a Swagger UI of 2020 with a known DOM XSS and pages that need inline script: its static files are
    replaced by the current ones, its page by ours, and what is left of it answers 404.
    """
    with app.test_request_context(headers={"Accept-Language": "en"}):
        document = build(doors).to_dict()
    Swagger(
        app,
        template=copy.deepcopy(document),  # flasgger writes into what it is given
        config={
            "headers": [],
            "openapi": document["openapi"],
            "specs_route": "/swagger/",
            "static_folder": str(UI),
            "static_url_path": "/swagger/assets",
            "specs": [{"endpoint": "openapi", "route": "/openapi.json", "rule_filter": _none, "model_filter": _none}],
        },
    )
    for rule in app.url_map.iter_rules():
        if rule.endpoint in {"flasgger.openapi", "flasgger.apidocs"}:
            public(app.view_functions[rule.endpoint])
        elif rule.endpoint.startswith("flasgger."):
            app.view_functions[rule.endpoint] = _not_found


def build(doors: Iterable[Describe]) -> APISpec:
    """Return the document: what all doors share, then what each of them adds."""
    spec = APISpec(
        title="useradd",
        version=VERSION,
        openapi_version="3.0.3",
        info={"description": ABOUT, "license": {"name": "MIT"}},
        plugins=[MarshmallowPlugin()],
        servers=[{"url": "/"}],
    )
    spec.components.schema("Problem", _PROBLEM)
    spec.components.security_scheme("session", {"type": "apiKey", "in": "cookie", "name": "session"})
    spec.components.security_scheme(
        "key", {"type": "http", "scheme": "bearer", "description": "API key that an administrator made"}
    )
    for describe in doors:
        describe(spec)
    return spec


def problem_responses(codes: Iterable[str]) -> dict[str, Any]:
    """Return the responses of these codes, those of one status together, each code with an example."""
    responses: dict[str, Any] = {}
    for code in codes:
        problem = PROBLEMS[code]
        response = responses.setdefault(
            str(problem.status),
            {
                "description": "",
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        response["description"] = " / ".join(filter(None, (response["description"], f"`{code}`")))
        if problem.retryable:
            response["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
        response["content"][MEDIA_TYPE]["examples"][code] = {"value": _example(code)}
    return responses


def _example(code: str) -> dict[str, Any]:
    problem = PROBLEMS[code]
    example: dict[str, Any] = {
        "type": f"/problems/{code}",
        "title": str(problem.title),
        "status": problem.status,
        "detail": str(problem.details[""]) % problem.sample if problem.sample else str(problem.details[""]),
        "code": code,
        "attempt_id": "01936b4e-2f6a-7c3e-9b1d-5a8f0c2e4d61",
    }
    if code == "validation_failed":
        message = "The number is too short. Example: +7 999 123-45-67."
        example["errors"] = [{"field": "phone", "code": "invalid_phone", "message": message}]
    if code == "conflict":
        example["errors"] = [{"field": "username", "code": "username_taken", "message": "The login is taken."}]
    return example


def _none(_: object) -> bool:
    return False


@public
def _not_found(**_: Any) -> ResponseReturnValue:
    abort(404)


_TEXT = {"type": "string"}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {**_TEXT, "description": "Address of a page that explains the code"},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "code": {**_TEXT, "enum": sorted(PROBLEMS), "description": "Stable, the same in every language"},
        "attempt_id": {**_TEXT, "format": "uuid", "description": "Number of the attempt, for /useradd"},
        "request_id": {**_TEXT, "format": "uuid", "description": "Number of the request, elsewhere"},
        "idempotency_key": {**_TEXT, "description": "Repeat with this key: no second user will appear"},
        "recorded": {"type": "boolean", "description": "false: the attempt could not be kept"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "code", "message"],
                "properties": {"field": _TEXT, "code": _TEXT, "message": _TEXT},
            },
        },
    },
}
