"""Several hosts on one machine: a PostgreSQL cluster, two instances of the service, and injected faults."""
