"""Use cases, independent of HTTP. Each controls its own transactions."""
