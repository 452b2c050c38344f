"""References that the service is compared to: PostgreSQL alone and common implementations of the same task."""
