"""What the API door adds to the OpenAPI document."""

from typing import Any

from apispec import APISpec

from project.contract.openapi import problem_responses
from project.contract.schemas import UserAddSchema

CODES = (
    "bad_request", "malformed_json", "body_not_object", "bad_idempotency_key", "unauthorized", "method_not_allowed",
    "conflict", "credentials_changed", "body_too_large", "unsupported_media_type", "validation_failed",
    "idempotency_key_reused", "rate_limited", "internal_error", "database_unavailable", "overloaded", "outcome_unknown",
)  # fmt: skip
"""Every code with which POST /useradd can refuse."""


def describe(spec: APISpec) -> None:
    """Add POST /api/v1/useradd/. Its other addresses are the same view and stay out of the document."""
    spec.components.schema("NewUser", schema=UserAddSchema)
    spec.components.schema("Created", _CREATED)
    spec.components.schema("Checked", _CHECKED)
    responses: dict[str, Any] = {
        "200": {
            "description": "Dry run: nothing is wrong, nothing was created",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Checked"}}},
        },
        "201": {
            "description": "Created, or the first answer again for a repeated Idempotency-Key",
            "headers": {
                "Location": {"description": "Page of the attempt", "schema": {"type": "string"}},
                "Idempotent-Replayed": {"description": "`true` on a repeat", "schema": {"type": "string"}},
            },
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Created"}}},
        },
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


_DRY_RUN = {
    "name": "dry_run",
    "in": "query",
    "description": "`true`: only check the fields",
    "schema": {"type": "boolean", "default": False},
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A repeat within 24 hours with the same key and body gets the same login and password "
    "and creates no second user. 22 to 255 visible ASCII characters, a UUID is best",
    "schema": {"type": "string", "minLength": 22, "maxLength": 255, "pattern": "^[!#-~]+$"},
}
_LANGUAGE = {
    "name": "Accept-Language",
    "in": "header",
    "description": "Language of the texts",
    "schema": {"type": "string", "example": "en"},
}
_TEXT = {"type": "string"}
_NULLABLE = {"type": "string", "nullable": True}
_USER = {
    "name": _TEXT,
    "username": _TEXT,
    "phone": {**_NULLABLE, "example": "+79991234567"},
    "email": {**_NULLABLE, "example": "ivan@example.org"},
    "birth_date": {**_NULLABLE, "format": "date", "example": "1990-12-31"},
}
_CREATED = {
    "type": "object",
    "required": ["login", "password", "user", "attempt_id", "idempotency_key", "links"],
    "properties": {
        "login": {**_TEXT, "example": "petrov.ivan"},
        "password": {**_TEXT, "example": "xqrpc-pyvma-5u696-476a8-jg54tq"},
        "user": {
            "type": "object",
            "properties": {
                "id": {**_TEXT, "format": "uuid"},
                **_USER,
                "created_at": {**_TEXT, "format": "date-time"},
            },
        },
        "attempt_id": {**_TEXT, "format": "uuid"},
        "idempotency_key": _TEXT,
        "links": {"type": "object", "properties": {"login": _TEXT, "results": _TEXT}},
    },
}
_CHECKED = {
    "type": "object",
    "required": ["valid", "normalized", "attempt_id"],
    "properties": {
        "valid": {"type": "boolean"},
        "normalized": {"type": "object", "properties": _USER},
        "attempt_id": {**_TEXT, "format": "uuid"},
        "recorded": {"type": "boolean", "description": "false: the attempt could not be kept"},
    },
}
