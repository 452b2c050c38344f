"""A cluster on one machine: three PostgreSQL hosts, two instances, injected faults."""
