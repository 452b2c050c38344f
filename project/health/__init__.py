"""Blueprint of the health checks, the state of the instance, and metrics for Prometheus."""

from project.health.metrics import init_app
from project.health.openapi import describe
from project.health.routes import bp

__all__ = ["bp", "describe", "init_app"]
