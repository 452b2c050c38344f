"""OpenAPI description of POST /useradd."""

from apispec import APISpec

from project.contract.openapi import parameter, problem_responses, success
from project.contract.responses import CHECKED, CREATED

CODES = (
    "bad_request", "unknown_host", "unknown_parameter", "malformed_json", "body_not_object", "bad_idempotency_key",
    "unauthorized", "method_not_allowed", "conflict", "credentials_changed", "body_too_large", "unsupported_media_type",
    "validation_failed", "idempotency_key_reused", "rate_limited", "internal_error", "database_unavailable",
    "overloaded", "outcome_unknown",
)  # fmt: skip
"""Every problem code of POST /useradd."""


def describe(spec: APISpec) -> None:
    """Add POST /api/v1/useradd/ to the OpenAPI document; its aliases are left out."""
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
