"""The contract with clients: error codes, problem documents, schemas and OpenAPI."""
