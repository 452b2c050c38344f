"""What /metrics tells: every answer is counted here, and how the process is is read from its parts."""

import platform
import time
from collections.abc import Iterator

from flask import Flask, Request, Response

from project.domain.attempts import CHECKED, CREATED, REPLAYED, Outcome
from project.metrics import Counter, Histogram, Metrics, head, line
from project.outage import Database
from project.spool import Spool, SpoolError, survey
from project.web.catalogue import FIELD_CODES, PROBLEMS
from project.web.context import this_g, this_request
from project.web.request_id import request_id
from project.web.swagger import VERSION
from project.web.tools import Tools, tools

OTHER = "other"
FILES = {"reports.export", "reports.download_txt", "reports.download_xlsx"}
DOORS = frozenset({"auth", "reports", "files", "admin", "health", "static", OTHER})
CLASSES = ("", "1xx", "2xx", "3xx", "4xx", "5xx")


class _Answers:
    """Counts answers. Everything that has a name has it before the first request: counting one costs 3 µs."""

    def __init__(self, metrics: Metrics) -> None:
        told = "Answers that are no attempts, by door and class of status"
        self._statuses = {
            (door, status): metrics.counter("useradd_answers_total", told, {"door": door, "status": status})
            for door in sorted(DOORS)
            for status in CLASSES[2:]
        }
        told = "Time from a request's arrival to the first byte of its answer, by door"
        self._doors = {
            door: metrics.histogram("useradd_answer_duration_seconds", told, {"door": door}) for door in sorted(DOORS)
        }
        told = "Time that a request waited for a thread"
        self._queue = metrics.histogram("useradd_queue_duration_seconds", told)
        told = "Time from an attempt's arrival to its answer, by outcome"
        durations = {
            outcome: metrics.histogram("useradd_attempt_duration_seconds", told, {"outcome": outcome})
            for outcome in Outcome
        }
        self._defects = metrics.counter("useradd_defects_total", "Answers that say 500: defects of ours")
        told = "Attempts, by outcome and reason"
        self._attempts: dict[str, tuple[Counter, Histogram]] = {
            code: (
                metrics.counter("useradd_attempts_total", told, {"outcome": outcome, "code": code}),
                durations[outcome],
            )
            for code, outcome in outcomes().items()
        }

    def count(self, response: Response) -> Response:
        """Count an answer."""
        here = this_g()
        if "arrival" not in here:  # a request that Flask refuses before its first hook
            request_id()
        started, waited_s, _ = here.arrival
        seconds = time.monotonic() - started
        self._queue.observe(waited_s)
        if "attempt" in here:
            counter, histogram = self._attempts.get(here.get("code")) or self._attempts[OTHER]
        else:
            door = _door(this_request())
            counter = self._statuses[door, CLASSES[response.status_code // 100]]
            histogram = self._doors[door]
        counter.add()
        histogram.observe(seconds)
        if response.status_code == 500:
            self._defects.add()
        return response


def outcomes() -> dict[str, Outcome]:
    """Return every code that an attempt can be answered with, and the outcome that it stands for."""
    refusals = {code: entry.status for entries in (FIELD_CODES, PROBLEMS) for code, entry in entries.items()}
    refusals.pop("validation_failed")  # it always names a field
    return {
        CREATED: Outcome.CREATED,
        CHECKED: Outcome.UNCHANGED,
        REPLAYED: Outcome.UNCHANGED,
        **{code: Outcome.of(status) for code, status in refusals.items()},
        OTHER: Outcome.FAILED,
    }


def _door(request: Request) -> str:
    """Return the door that a request came through; the administrators' is many blueprints below one address."""
    endpoint = request.endpoint or ""
    if endpoint in FILES:
        return "files"
    name = endpoint.partition(".")[0]
    return name if name in DOORS else "admin" if request.path.startswith("/admin/") else OTHER


def init_app(app: Flask) -> None:
    """Count every answer, and let every process note how it is."""
    parts = tools(app)
    app.after_request(_Answers(parts.metrics).count)
    _watch(parts)


def _watch(parts: Tools) -> None:
    metrics, spool, upkeep = parts.metrics, parts.spool, parts.upkeep
    for name, way in (("writing", parts.database), ("reading", parts.reading), ("replica", parts.reading.replica)):
        if way:
            _watch_way(metrics, {"database": name}, way)
    if parts.reading.replica:
        told = "How far behind the primary the replica is; infinite while it does not answer"
        metrics.gauge("useradd_replica_lag_seconds", told, lambda: parts.reading.replica_lag_s, fold=max)
    told = "Part of the quota of the fullest process's spool that is used; 1 as well when its disk cannot be used"
    metrics.gauge("useradd_spool_fullness_ratio", told, lambda: _fullness(spool), fold=max)
    told = "Attempts that PostgreSQL and the disk did not take: they stand in the log only"
    metrics.counter("useradd_attempts_lost_total", told, read=lambda: spool.lost)
    told = "Attempts brought in from the disk"
    metrics.counter("useradd_attempts_drained_total", told, read=lambda: upkeep.drained)
    told = "Attempts that are not counted beforehand yet: statistics look at each of them"
    metrics.gauge("useradd_rollup_lag_attempts", told, lambda: upkeep.uncounted, fold=max)


def _watch_way(metrics: Metrics, labels: dict[str, str], way: Database) -> None:
    told = "Workers that find PostgreSQL away"
    metrics.gauge("useradd_breaker_open_workers", told, lambda: way.breaker.is_open, labels)
    told = "Connections at work"
    metrics.gauge("useradd_database_connections_used", told, lambda: way.in_use, labels)
    told = "Connections that there may be"
    metrics.gauge("useradd_database_connections_max", told, lambda: way.connections, labels)
    told = "Threads that wait for a slot or a connection"
    metrics.gauge("useradd_database_waiting_threads", told, lambda: way.waiting, labels)


def _fullness(spool: Spool) -> float:
    try:
        return spool.fullness
    except SpoolError:
        return 1


def text() -> str:
    """Return all figures of the whole service; PostgreSQL is not asked."""
    parts = tools()
    parts.metrics.note()
    return parts.metrics.text() + "".join(f"{one}\n" for one in _at_once(parts))


def _at_once(parts: Tools) -> Iterator[str]:
    """Return what is the same whichever process is asked."""
    kept, metrics = survey(parts.spool.root), parts.metrics
    age = 0 if kept.oldest is None else max(0, time.time() - kept.oldest)
    for name, kind, meaning, value in (
        ("useradd_spool_attempts", "gauge", "Attempts that wait on disk", kept.records),
        ("useradd_spool_bytes", "gauge", "Bytes that they take", kept.bytes),
        ("useradd_spool_oldest_seconds", "gauge", "For how long the oldest of them has waited", age),
        ("useradd_spool_quarantined_lines", "gauge", "Lines in quarantine", kept.quarantined),
        ("useradd_workers", "gauge", "Workers that run", metrics.running),
        ("useradd_workers_expected", "gauge", "Workers that there should be", parts.config.workers),
        ("useradd_workers_replaced_total", "counter", "Workers that died and were replaced", metrics.replaced),
    ):
        yield from head(name, kind, meaning)
        yield line(name, {}, value)
    yield from head("useradd_build_info", "gauge", "What runs")
    yield line("useradd_build_info", {"version": VERSION, "python": platform.python_version()}, 1)
