"""OpenAPI description of the health checks and /status."""

from apispec import APISpec

from project.contract.openapi import success
from project.contract.responses import HEALTH, STATUS


def describe(spec: APISpec) -> None:
    """Add /livez, /readyz and /status to the OpenAPI document."""
    ready = {"200": success("Yes", HEALTH), "503": success("No: it stops, or its spool is full", HEALTH)}
    for name, summary, responses in (
        ("livez", "Is the process alive", {"200": success("Yes", HEALTH)}),
        ("readyz", "Should requests come here", ready),
        ("status", "How is the instance", {"200": success("So", STATUS)}),
    ):
        operation = {"operationId": name, "tags": ["health"], "summary": summary, "responses": responses}
        spec.path(f"/{name}", operations={"get": operation})
