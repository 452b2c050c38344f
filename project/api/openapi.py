"""OpenAPI description of POST /useradd and /useradd/bulk."""

from apispec import APISpec

from project.contract.openapi import describe_parameter, describe_problems, describe_response
from project.contract.responses import CHECKED_SCHEMA, CREATED_SCHEMA

CODES = (
    "bad_request", "unknown_host", "unknown_parameter", "malformed_json", "body_not_object", "bad_idempotency_key",
    "unauthorized", "method_not_allowed", "conflict", "credentials_changed", "body_too_large", "unsupported_media_type",
    "validation_failed", "idempotency_key_reused", "rate_limited", "internal_error", "database_unavailable",
    "overloaded", "outcome_unknown",
)  # fmt: skip
"""Codes of the problem documents that the OpenAPI document lists for POST /useradd."""
BULK_CODES = (
    "bad_request", "unknown_parameter", "malformed_json", "bad_idempotency_key", "unauthorized", "method_not_allowed",
    "body_too_large", "too_many", "unsupported_media_type", "rate_limited", "internal_error", "overloaded",
)  # fmt: skip
"""Codes that the OpenAPI document lists for refusals of a whole request by POST /useradd/bulk."""


def describe_endpoints(spec: APISpec) -> None:
    """Add POST /useradd and /useradd/bulk to the OpenAPI document, each at one address."""
    _describe_useradd(spec)
    _describe_bulk(spec)


def _describe_useradd(spec: APISpec) -> None:
    location = {"description": "Page of the attempt", "schema": {"type": "string"}}
    replayed = {"description": "`true` if this repeats an earlier response", "schema": {"type": "string"}}
    responses = {
        "200": describe_response("Dry run: the fields are valid, nothing was created", CHECKED_SCHEMA),
        "201": describe_response(
            "Created, or the first response again for a repeated Idempotency-Key",
            CREATED_SCHEMA,
            headers={"Location": location, "Idempotent-Replayed": replayed},
        ),
    }
    spec.path(
        "/api/v1/useradd/",
        operations={
            "post": {
                "operationId": "useradd",
                "tags": ["users"],
                "summary": "Create a user and return login and password",
                "description": "`/api/v1/useradd`, `/useradd/` and `/useradd` are the same. "
                "Send at least one of `phone` and `email`. "
                "With the setting `API_KEYS_REQUIRED` the service requires an API key.",
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
                "responses": responses | describe_problems(CODES),
            }
        },
    )


def _describe_bulk(spec: APISpec) -> None:
    user, line = {"$ref": "#/components/schemas/NewUser"}, {"$ref": "#/components/schemas/Line"}
    # OpenAPI 3.0 has no schema for NDJSON
    lines = {"schema": {"type": "string", "description": "One JSON object per line"}}
    spec.path(
        "/api/v1/useradd/bulk/",
        operations={
            "post": {
                "operationId": "useradd_bulk",
                "tags": ["users"],
                "summary": "Create up to 10,000 users and return a result for each",
                "description": "Send one user per line (`application/x-ndjson`), or an array, at most 8 MiB. The "
                "response has the same form and order. Each line is an attempt with the rules of `/api/v1/useradd/`. "
                "The same request with the same `Idempotency-Key` returns the same results; if lines were added, "
                "removed or moved, it creates only the new users. Lines with the same content are one user. "
                "Retry lines with status 429 or 503. Rate limits count lines.",
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
                        "description": "A result for each line",
                        "content": {
                            "application/x-ndjson": lines,
                            "application/json": {"schema": {"type": "array", "items": line}},
                        },
                    }
                }
                | describe_problems(BULK_CODES),
            }
        },
    )


_DRY_RUN = describe_parameter(
    "dry_run", "`true`: only validate the fields. Unknown parameters are refused", {"type": "boolean", "default": False}
)
_KEY = describe_parameter(
    "Idempotency-Key",
    "A retry within 24 hours with the same key and body returns the same login and password "
    "and creates no second user. 21 to 255 visible ASCII characters, preferably a UUID",
    {"type": "string", "minLength": 21, "maxLength": 255, "pattern": "^[!#-~]+$"},
    "header",
)
_LANGUAGE = describe_parameter(
    "Accept-Language", "Language of the texts", {"type": "string", "example": "en"}, "header"
)
