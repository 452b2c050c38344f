"""OpenAPI description of the health checks and /status."""

from apispec import APISpec

from project.contract.openapi import success
from project.contract.responses import HEALTH, STATUS


def describe(spec: APISpec) -> None:
    """Add /livez, /readyz and /status to the OpenAPI document."""
    live = {"200": success("Yes", HEALTH)}
    ready = {"200": success("Yes", HEALTH), "503": success("No: it stops, or its spool is full", HEALTH)}
    status = {"200": success("So", STATUS)}
    for name, summary, description, responses in (
        ("livez", "Is the process alive", "Asks nothing of PostgreSQL.", live),
        ("readyz", "Should requests come here", "Yes also while PostgreSQL is unavailable.", ready),
        ("status", "How is the instance", "Database, replica, spool and worker processes.", status),
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
