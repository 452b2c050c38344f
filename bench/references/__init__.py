"""References for the service: PostgreSQL alone and common implementations of its task."""
