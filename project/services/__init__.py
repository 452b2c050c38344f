"""Use cases, independent of HTTP. Each takes its dependencies as arguments and controls its own transactions."""
