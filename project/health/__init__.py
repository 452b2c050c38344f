"""Blueprint of the health checks, the state of the instance, and metrics for Prometheus."""

from project.health.metrics import init_app
from project.health.openapi import describe_endpoints
from project.health.routes import bp

__all__ = ["bp", "describe_endpoints", "init_app"]
