"""DOOR: is the service alive, is it ready."""

from project.health.openapi import describe
from project.health.routes import bp

__all__ = ["bp", "describe"]
