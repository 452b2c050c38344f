"""What the health door adds to the OpenAPI document."""

from apispec import APISpec


def describe(spec: APISpec) -> None:
    """Add /livez and /readyz."""
    for path, summary in (("/livez", "Is the process alive"), ("/readyz", "Should requests come here")):
        spec.path(
            path,
            operations={
                "get": {
                    "tags": ["health"],
                    "summary": summary,
                    "responses": {
                        "200": {
                            "description": "Yes",
                            "content": {
                                "application/json": {
                                    "schema": {"type": "object", "properties": {"status": {"type": "string"}}}
                                }
                            },
                        }
                    },
                }
            },
        )
