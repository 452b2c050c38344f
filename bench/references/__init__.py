"""What the service is compared to: PostgreSQL alone, and the same task written the usual ways."""
