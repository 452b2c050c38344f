"""OpenAPI description of the health checks and /status."""

from apispec import APISpec

from project.contract.openapi import success
from project.contract.responses import HEALTH, STATUS


def describe(spec: APISpec) -> None:
    """Add /livez, /readyz and /status to the OpenAPI document."""
    live = {"200": success("OK", HEALTH)}
    ready = {"200": success("OK", HEALTH), "503": success("The instance stops, or its spool is full", HEALTH)}
    status = {"200": success("OK", STATUS)}
    for name, summary, description, responses in (
        ("livez", "Liveness", "Asks nothing of PostgreSQL.", live),
        ("readyz", "Readiness", "Succeeds also while PostgreSQL is unavailable.", ready),
        ("status", "Instance status", "Database, replica, spool and worker processes.", status),
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
