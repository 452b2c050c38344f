"""OpenAPI description of POST /useradd and /useradd/bulk."""

from apispec import APISpec

from project.contract.openapi import parameter, problem_responses, success
from project.contract.responses import CHECKED, CREATED

CODES = (
    "bad_request", "unknown_host", "unknown_parameter", "malformed_json", "body_not_object", "bad_idempotency_key",
    "unauthorized", "method_not_allowed", "conflict", "credentials_changed", "body_too_large", "unsupported_media_type",
    "validation_failed", "idempotency_key_reused", "rate_limited", "internal_error", "database_unavailable",
    "overloaded", "outcome_unknown",
)  # fmt: skip
"""The problem codes of POST /useradd."""


BULK_CODES = (
    "bad_request", "unknown_parameter", "malformed_json", "bad_idempotency_key", "unauthorized", "method_not_allowed",
    "body_too_large", "too_many", "unsupported_media_type", "rate_limited", "internal_error", "overloaded",
)  # fmt: skip
"""The problem codes of POST /useradd/bulk, not of its lines."""


def describe(spec: APISpec) -> None:
    """Add both endpoints to the OpenAPI document, without their aliases."""
    _describe_one(spec)
    _describe_many(spec)


def _describe_one(spec: APISpec) -> None:
    location = {"description": "Page of the attempt", "schema": {"type": "string"}}
    replayed = {"description": "`true` on a repeat", "schema": {"type": "string"}}
    responses = {
        "200": success("Dry run: nothing is wrong, nothing was created", CHECKED),
        "201": success(
            "Created, or the first answer again for a repeated Idempotency-Key",
            CREATED,
            headers={"Location": location, "Idempotent-Replayed": replayed},
        ),
    }
    spec.path(
        "/api/v1/useradd/",
        operations={
            "post": {
                "operationId": "useradd",
                "tags": ["users"],
                "summary": "Create a user; the answer has its login and password",
                "description": "The same view answers at `/api/v1/useradd`, `/useradd/` and `/useradd`. "
                "At least one of `phone` and `email` is needed. "
                "Where the service is set so (`API_KEYS_REQUIRED`), an API key is needed.",
                "parameters": [_DRY_RUN, _KEY, _LANGUAGE],
                "security": [{}, {"key": []}],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/NewUser"},
                            "example": {
                                "name": "Иван Петров",
                                "username": "petrov.ivan",
                                "phone": "8 (999) 123-45-67",
                                "email": "ivan@example.org",
                                "birth_date": "1990-12-31",
                            },
                        }
                    },
                },
                "responses": responses | problem_responses(CODES),
            }
        },
    )


def _describe_many(spec: APISpec) -> None:
    user, line = {"$ref": "#/components/schemas/NewUser"}, {"$ref": "#/components/schemas/Line"}
    lines = {"schema": {"type": "string", "description": "An object on each line"}}  # OpenAPI 3.0 cannot describe it
    spec.path(
        "/api/v1/useradd/bulk/",
        operations={
            "post": {
                "operationId": "useradd_bulk",
                "tags": ["users"],
                "summary": "Create up to 10,000 users; each line has an answer of its own",
                "description": "One user a line (`application/x-ndjson`), or an array. At most 8 MiB. The answer has "
                "the same form and order; each line is an attempt with the rules of `/api/v1/useradd/`. "
                "The same request with the same `Idempotency-Key` gives the same answers; with lines added, removed or "
                "moved it creates only what is new. Lines with the same content are one user. "
                "Lines with status 429 or 503 can be sent again. Rate limits count lines.",
                "parameters": [_DRY_RUN, _KEY, _LANGUAGE],
                "security": [{}, {"key": []}],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/x-ndjson": lines,
                        "application/json": {"schema": {"type": "array", "items": user, "maxItems": 10_000}},
                    },
                },
                "responses": {
                    "200": {
                        "description": "An answer for each line",
                        "content": {
                            "application/x-ndjson": lines,
                            "application/json": {"schema": {"type": "array", "items": line}},
                        },
                    }
                }
                | problem_responses(BULK_CODES),
            }
        },
    )


_DRY_RUN = parameter(
    "dry_run", "`true`: only check the fields. Any other parameter is refused", {"type": "boolean", "default": False}
)
_KEY = parameter(
    "Idempotency-Key",
    "A repeat within 24 hours with the same key and body gets the same login and password "
    "and creates no second user. 21 to 255 visible ASCII characters, a UUID is best",
    {"type": "string", "minLength": 21, "maxLength": 255, "pattern": "^[!#-~]+$"},
    "header",
)
_LANGUAGE = parameter("Accept-Language", "Language of the texts", {"type": "string", "example": "en"}, "header")
