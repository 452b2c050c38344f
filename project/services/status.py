"""Determines the state of this instance, for the pages /status and /state/."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from project.database import Database, ReadDatabase
from project.metrics import Metrics
from project.services.upkeep import Upkeep
from project.spool import Spool, SpoolError
from project.version import VERSION

NEARLY_FULL = 0.9
"""Used fraction of the spool's quota from which this process is not ready for requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """Whether the service can create users, show statistics and spool attempts, and since when."""

    users_unavailable_since: datetime | None
    """Time since which no user can be created; None if users can be created."""
    statistics_unavailable_since: datetime | None
    """Time since which no statistics can be shown; None if statistics can be shown."""
    is_disk_usable: bool
    """Whether the spool can store attempts while PostgreSQL is unavailable."""
    checked_at: datetime | None
    """Time of the last check of a database; None before the first check."""

    @property
    def is_well(self) -> bool:
        """Whether users can be created, statistics shown and attempts spooled."""
        return (
            self.users_unavailable_since is None and self.statistics_unavailable_since is None and self.is_disk_usable
        )


def get_service_state(database: Database, read_database: ReadDatabase, spool: Spool) -> ServiceState:
    """Return the state of the service as this process sees it. Does not query PostgreSQL.

    Statistics need `database`, which verifies sessions, and the primary or the replica of `read_database`.
    """
    reading = [one.breaker.unavailable_since for one in read_database.databases]
    users, statistics = database.breaker.unavailable_since, None if None in reading else max(_without_none(reading))
    since = min(_without_none([users, statistics]), default=None)
    checks = (one.breaker.checked_at for one in (database, *read_database.databases))
    return ServiceState(
        users_unavailable_since=_clock_time(users),
        statistics_unavailable_since=_clock_time(since),
        is_disk_usable=_find_spool_problem(spool) is None,
        checked_at=_clock_time(max(checks) or None),
    )


def _without_none(times: Iterable[float | None]) -> list[float]:
    return [time for time in times if time is not None]


def _clock_time(monotonic_s: float | None) -> datetime | None:
    """Convert a value of time.monotonic() to a time in UTC. None stays None."""
    return None if monotonic_s is None else datetime.now(UTC) - timedelta(seconds=time.monotonic() - monotonic_s)


def get_status(
    database: Database, read_database: ReadDatabase, spool: Spool, upkeep: Upkeep, metrics: Metrics
) -> dict[str, Any]:
    """Return the values of the response of /status: the state of this instance."""
    metrics.update()
    waiting = spool.status
    problem = find_problem(spool, upkeep)
    return {
        "status": problem or ("degraded" if _is_unavailable(database) or waiting.records else "ok"),
        "version": VERSION,
        "database": _availability(database),
        "statistics": _availability(read_database),
        **({"replica": _replica_state(read_database, read_database.replica)} if read_database.replica else {}),
        "spool": {
            "attempts": waiting.records,
            "bytes": waiting.bytes,
            "oldest_s": None if waiting.oldest is None else max(0, round(time.time() - waiting.oldest)),
            "quarantined": waiting.quarantined,
            "lost": int(metrics.value("useradd_attempts_lost_total")),
        },
        "uncounted": int(metrics.value("useradd_rollup_lag_attempts")),
        "workers": {
            "running": metrics.running_workers,
            "expected": metrics.expected_workers,
            "replaced": metrics.replaced_workers,
            "database_away": int(metrics.value("useradd_breaker_open_workers", database="writing")),
        },
    }


def find_problem(spool: Spool, upkeep: Upkeep) -> str | None:
    """Return why this process should get no requests, as a code; None if it is ready."""
    return "stopping" if upkeep.is_stopping else _find_spool_problem(spool)


def _find_spool_problem(spool: Spool) -> str | None:
    try:
        return "spool_full" if spool.fullness >= NEARLY_FULL else None
    except SpoolError:
        return "spool_unusable"


def _replica_state(read_database: ReadDatabase, replica: Database) -> dict[str, Any]:
    """Return the availability of the replica, and its lag in seconds (None if unknown)."""
    lag_s = read_database.replica_lag_s
    return {"state": _availability(replica), "lag_s": round(lag_s, 1) if math.isfinite(lag_s) else None}


def _availability(database: Database) -> str:
    return "away" if _is_unavailable(database) else "up"


def _is_unavailable(database: Database) -> bool:
    return database.breaker.unavailable_since is not None
