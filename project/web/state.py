"""How this instance is: what /status tells programs and the administrators' page tells people."""

import math
import time
from typing import Any

from project.outage import Database, Reading
from project.spool import SpoolError, survey
from project.web.swagger import VERSION
from project.web.tools import tools

NEARLY_FULL = 0.9


def state() -> dict[str, Any]:
    """Return how this instance is; `status`, `database` and `statistics` are those of the process that answers."""
    parts = tools()
    metrics = parts.metrics
    metrics.note()
    kept = survey(parts.spool.root)
    return {
        "status": problem() or ("degraded" if parts.database.breaker.is_open or kept.records else "ok"),
        "version": VERSION,
        "database": _way(parts.database),
        "statistics": _way(parts.reading),
        **({"replica": _replica(parts.reading, parts.reading.replica)} if parts.reading.replica else {}),
        "spool": {
            "attempts": kept.records,
            "bytes": kept.bytes,
            "oldest_s": None if kept.oldest is None else max(0, round(time.time() - kept.oldest)),
            "quarantined": kept.quarantined,
            "lost": int(metrics.value("useradd_attempts_lost_total")),
        },
        "uncounted": int(metrics.value("useradd_rollup_lag_attempts")),
        "workers": {
            "running": metrics.running,
            "expected": parts.config.workers,
            "replaced": metrics.replaced,
            "database_away": int(metrics.value("useradd_breaker_open_workers", database="writing")),
        },
    }


def problem() -> str | None:
    """Return why requests should not come here: the process stops, or its disk takes nothing more."""
    if tools().upkeep.is_stopping:
        return "stopping"
    try:
        return "spool_full" if tools().spool.fullness >= NEARLY_FULL else None
    except SpoolError:
        return "spool_unusable"


def _replica(reading: Reading, replica: Database) -> dict[str, Any]:
    """Return how the replica is, and how many seconds behind: None when nobody knows."""
    lag_s = reading.replica_lag_s
    return {"state": _way(replica), "lag_s": round(lag_s, 1) if math.isfinite(lag_s) else None}


def _way(database: Database) -> str:
    return "away" if database.breaker.is_open else "up"
