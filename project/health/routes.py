"""What a balancer asks. Readiness does not depend on PostgreSQL: without it the service still answers and records."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from project.web.guards import open_to_all

bp = Blueprint("health", __name__)


@bp.get("/livez")
@open_to_all
def livez() -> ResponseReturnValue:
    """Say that this process answers."""
    return jsonify(status="ok")


@bp.get("/readyz")
@open_to_all
def readyz() -> ResponseReturnValue:
    """Say whether requests should come here: not while the process is stopping."""
    return jsonify(status="ok")
