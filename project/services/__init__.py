"""Use cases, independent of HTTP. Each use case controls its own transactions."""
