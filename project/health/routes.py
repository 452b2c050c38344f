"""What balancers and monitoring ask. Readiness does not depend on PostgreSQL: without it the service still answers
and records, and taking every instance out would turn a partial outage into a total one."""

from flask import Blueprint, Response, jsonify
from flask.typing import ResponseReturnValue

from project.web import prometheus, state
from project.web.guards import open_to_all, require_network
from project.web.tools import tools

bp = Blueprint("health", __name__)


@bp.get("/livez")
@open_to_all
def livez() -> ResponseReturnValue:
    """Say that this process answers."""
    return jsonify(status="ok")


@bp.get("/readyz")
@open_to_all
def readyz() -> ResponseReturnValue:
    """Say whether requests should come here: not while the process stops, nor when its disk takes nothing more."""
    problem = state.problem()
    return (jsonify(status=problem), 503) if problem else (jsonify(status="ok"), 200)


@bp.get("/status")
@open_to_all
def status() -> ResponseReturnValue:
    """Say how this instance is."""
    return jsonify(state.state())


@bp.get("/metrics")
@open_to_all
def metrics() -> ResponseReturnValue:
    """Tell Prometheus the figures of all processes of this instance."""
    require_network(tools().config.metrics_allow)
    return Response(prometheus.text(), content_type="text/plain; version=0.0.4; charset=utf-8")
