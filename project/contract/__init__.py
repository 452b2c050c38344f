"""What clients rely on: error codes, problem documents, schemas, OpenAPI, code pages."""
