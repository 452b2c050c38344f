"""What clients rely on: error codes, problem documents, request and response schemas, OpenAPI, code pages."""
