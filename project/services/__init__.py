"""Use cases: what the service does, told without HTTP. Each takes its tools as arguments and owns its transaction."""
