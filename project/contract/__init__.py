"""What clients rely on: error codes and their pages, problem documents, schemas, OpenAPI."""
