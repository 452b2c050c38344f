"""Determines the state of this instance for /status and the page of administrators."""

import math
import time
from typing import Any

from project.database import Database, ReadDatabase
from project.metrics import Metrics
from project.services.upkeep import Upkeep
from project.spool import Spool, SpoolError
from project.version import VERSION

NEARLY_FULL = 0.9


def get_status(
    database: Database, read_database: ReadDatabase, spool: Spool, upkeep: Upkeep, metrics: Metrics
) -> dict[str, Any]:
    """Return the state of this instance. Databases are reported as this process sees them."""
    metrics.update()
    waiting = spool.status
    problem = find_problem(spool, upkeep)
    return {
        "status": problem or ("degraded" if database.breaker.is_open or waiting.records else "ok"),
        "version": VERSION,
        "database": _availability(database),
        "statistics": _availability(read_database),
        **({"replica": _replica(read_database, read_database.replica)} if read_database.replica else {}),
        "spool": {
            "attempts": waiting.records,
            "bytes": waiting.bytes,
            "oldest_s": None if waiting.oldest is None else max(0, round(time.time() - waiting.oldest)),
            "quarantined": waiting.quarantined,
            "lost": int(metrics.value("useradd_attempts_lost_total")),
        },
        "uncounted": int(metrics.value("useradd_rollup_lag_attempts")),
        "workers": {
            "running": metrics.running,
            "expected": metrics.expected,
            "replaced": metrics.replaced,
            "database_away": int(metrics.value("useradd_breaker_open_workers", database="writing")),
        },
    }


def find_problem(spool: Spool, upkeep: Upkeep) -> str | None:
    """Return the reason why this process should get no requests, or None if it is ready."""
    if upkeep.is_stopping:
        return "stopping"
    try:
        return "spool_full" if spool.fullness >= NEARLY_FULL else None
    except SpoolError:
        return "spool_unusable"


def _replica(read_database: ReadDatabase, replica: Database) -> dict[str, Any]:
    """Return the availability of the replica, and its lag in seconds (None if unknown)."""
    lag_s = read_database.replica_lag_s
    return {"state": _availability(replica), "lag_s": round(lag_s, 1) if math.isfinite(lag_s) else None}


def _availability(database: Database) -> str:
    return "away" if database.breaker.is_open else "up"
