"""Health checks and /status in the OpenAPI document."""

from typing import Any

from apispec import APISpec

from project.contract.openapi import success
from project.contract.responses import HEALTH, STATUS


def describe(spec: APISpec) -> None:
    """Add /livez, /readyz and /status."""
    spec.path(
        "/livez", operations={"get": _operation("livez", "Is the process alive", {"200": success("Yes", HEALTH)})}
    )
    ready = {"200": success("Yes", HEALTH), "503": success("No: it stops, or its spool is full", HEALTH)}
    spec.path("/readyz", operations={"get": _operation("readyz", "Should requests come here", ready)})
    spec.path(
        "/status", operations={"get": _operation("status", "How is the instance", {"200": success("So", STATUS)})}
    )


def _operation(name: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"operationId": name, "tags": ["health"], "summary": summary, "responses": responses}
