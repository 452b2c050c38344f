"""OpenAPI description of the health checks and /status."""

from apispec import APISpec

from project.contract.openapi import describe_response
from project.contract.responses import HEALTH_SCHEMA, STATUS_SCHEMA


def describe_endpoints(spec: APISpec) -> None:
    """Add /livez, /readyz and /status to the OpenAPI document."""
    live = {"200": describe_response("OK", HEALTH_SCHEMA)}
    ready = {
        "200": describe_response("OK", HEALTH_SCHEMA),
        "503": describe_response("The instance is stopping, or its spool is full or unusable", HEALTH_SCHEMA),
    }
    status = {"200": describe_response("OK", STATUS_SCHEMA)}
    for name, summary, description, responses in (
        ("livez", "Liveness", "The process responds; PostgreSQL is not queried.", live),
        ("readyz", "Readiness", "The instance accepts requests, also while PostgreSQL is unavailable.", ready),
        ("status", "Instance status", "State of database, replica, spool and worker processes.", status),
    ):
        operation = {
            "operationId": name,
            "tags": ["health"],
            "summary": summary,
            "description": description,
            "security": [],
            "responses": responses,
        }
        spec.path(f"/{name}", operations={"get": operation})
