"""Rules and value types, which use neither Flask nor the database."""
