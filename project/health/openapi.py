"""OpenAPI description of the health checks and /status."""

from apispec import APISpec

from project.contract.openapi import success
from project.contract.responses import HEALTH, STATUS


def describe(spec: APISpec) -> None:
    """Add /livez, /readyz and /status to the OpenAPI document."""
    live = {"200": success("OK", HEALTH)}
    ready = {
        "200": success("OK", HEALTH),
        "503": success("The instance is stopping, or its spool is full or unusable", HEALTH),
    }
    status = {"200": success("OK", STATUS)}
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
