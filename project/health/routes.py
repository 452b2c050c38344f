"""Endpoints for load balancers and monitoring, and the state page for users.

Readiness does not depend on PostgreSQL: otherwise an outage would make all instances unready at once, although they can
still respond and record attempts.
"""

from dataclasses import asdict

from flask import Blueprint, Response, jsonify, make_response, render_template
from flask.typing import ResponseReturnValue

from project.contract.responses import HEALTH_SCHEMA, STATUS_SCHEMA
from project.health.metrics import render_metrics
from project.http.guards import public, require_network
from project.http.negotiation import prefers_page
from project.presentation import service_state
from project.runtime import get_runtime
from project.services.status import find_problem, get_status

bp = Blueprint("health", __name__)


@bp.get("/livez")
@public
def livez() -> ResponseReturnValue:
    """Respond with 200, which shows that this process is alive."""
    return jsonify(HEALTH_SCHEMA.dump({"status": "ok"}))


@bp.get("/readyz")
@public
def readyz() -> ResponseReturnValue:
    """Respond with 200, or 503 if the process is stopping or its spool full or unusable.

    The spool counts as full from 90 % of its quota.
    """
    problem = find_problem(get_runtime().spool, get_runtime().upkeep)
    return jsonify(HEALTH_SCHEMA.dump({"status": problem or "ok"})), 503 if problem else 200


@bp.get("/status")
@public
def status() -> ResponseReturnValue:
    """Respond with the state of database, replica, spool and workers as JSON.

    The HTTP status is always 200.
    """
    runtime = get_runtime()
    state = get_status(runtime.database, runtime.read_database, runtime.spool, runtime.upkeep, runtime.metrics)
    return jsonify(STATUS_SCHEMA.dump(state))


@bp.get("/state/")
@public
def state() -> Response:
    """Describe the state of the service in words: on a page, or in JSON for pages that poll it."""
    now = service_state.current_state()
    values = {
        "sentence": service_state.describe(now),
        "is_well": now.is_well,
        "lines": service_state.describe_in_lines(now),
    }
    if prefers_page():
        response = make_response(render_template("health/state.html", **values))
    else:
        response = jsonify(values | {"lines": [asdict(line) for line in service_state.describe_in_lines(now)]})
    response.headers.add("Vary", "Accept")
    return response


@bp.get("/metrics")
@public
def metrics() -> ResponseReturnValue:
    """Respond with the metrics of this instance for Prometheus.

    Raises RefusalError if METRICS_ALLOW does not contain the address of the client.
    """
    require_network(get_runtime().config.metrics_allow)
    return Response(render_metrics(), content_type="text/plain; version=0.0.4; charset=utf-8")
