"""What balancers and monitoring ask. Readiness does not depend on PostgreSQL: without it the service still answers
and records, and taking every instance out would turn a partial outage into a total one."""

import time

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from project.outage import Database
from project.spool import SpoolError, survey
from project.web.guards import open_to_all
from project.web.tools import tools

bp = Blueprint("health", __name__)

NEARLY_FULL = 0.9


@bp.get("/livez")
@open_to_all
def livez() -> ResponseReturnValue:
    """Say that this process answers."""
    return jsonify(status="ok")


@bp.get("/readyz")
@open_to_all
def readyz() -> ResponseReturnValue:
    """Say whether requests should come here: not while the process stops, nor when its disk takes nothing more."""
    problem = _problem()
    return (jsonify(status=problem), 503) if problem else (jsonify(status="ok"), 200)


@bp.get("/status")
@open_to_all
def status() -> ResponseReturnValue:
    """Say how this instance is; the breakers and `lost` are those of the process that answers."""
    parts = tools()
    kept = survey(parts.spool.root)
    return jsonify(
        status=_problem() or ("degraded" if parts.database.breaker.is_open or kept.records else "ok"),
        database=_state(parts.database),
        statistics=_state(parts.reading),
        spool={
            "attempts": kept.records,
            "bytes": kept.bytes,
            "oldest_s": None if kept.oldest is None else max(0, round(time.time() - kept.oldest)),
            "quarantined": kept.quarantined,
            "lost": parts.spool.lost,
        },
    )


def _problem() -> str | None:
    if tools().upkeep.is_stopping:
        return "stopping"
    try:
        return "spool_full" if tools().spool.fullness >= NEARLY_FULL else None
    except SpoolError:
        return "spool_unusable"


def _state(database: Database) -> str:
    return "away" if database.breaker.is_open else "up"
