"""Blueprint: liveness, readiness, state of the instance, metrics for Prometheus."""

from flask import Flask

from project.health import metrics
from project.health.openapi import describe
from project.health.routes import bp

__all__ = ["bp", "describe", "init_app"]


def init_app(app: Flask) -> None:
    """Count every response and export the state of every process."""
    metrics.init_app(app)
