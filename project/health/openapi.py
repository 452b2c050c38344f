"""What the health door adds to the OpenAPI document."""

from typing import Any

from apispec import APISpec

_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}
_ANSWER = {"type": "object", "properties": {"status": _TEXT}, "required": ["status"]}
_STATUS = {
    "type": "object",
    "properties": {
        "status": {"enum": ["ok", "degraded", "stopping", "spool_full", "spool_unusable"]},
        "version": _TEXT,
        "database": {"enum": ["up", "away"]},
        "statistics": {"enum": ["up", "away"]},
        "replica": {
            "type": "object",
            "properties": {"state": {"enum": ["up", "away"]}, "lag_s": {"type": "number", "nullable": True}},
        },
        "spool": {
            "type": "object",
            "properties": {
                "attempts": _NUMBER,
                "bytes": _NUMBER,
                "oldest_s": {"type": "integer", "nullable": True},
                "quarantined": _NUMBER,
                "lost": _NUMBER,
            },
        },
        "uncounted": _NUMBER,
        "workers": {
            "type": "object",
            "properties": dict.fromkeys(("running", "expected", "replaced", "database_away"), _NUMBER),
        },
    },
    "required": ["status", "version", "database", "statistics", "spool", "uncounted", "workers"],
}


def describe(spec: APISpec) -> None:
    """Add /livez, /readyz and /status."""
    spec.path("/livez", operations={"get": _operation("livez", "Is the process alive", {"200": _json("Yes", _ANSWER)})})
    ready = {"200": _json("Yes", _ANSWER), "503": _json("No: it stops, or its spool is full", _ANSWER)}
    spec.path("/readyz", operations={"get": _operation("readyz", "Should requests come here", ready)})
    spec.path("/status", operations={"get": _operation("status", "How is the instance", {"200": _json("So", _STATUS)})})


def _operation(name: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"operationId": name, "tags": ["health"], "summary": summary, "responses": responses}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
