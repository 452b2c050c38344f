"""Metrics for Prometheus: counts and durations of responses, and the state of processes."""

import platform
import time
from collections.abc import Iterator
from functools import partial

from flask import Flask, Request, Response

from project.contract.error_codes import FIELD_CODES, PROBLEMS
from project.database import Database
from project.domain.attempts import CREATED, DRY_RUN, REPLAYED, Outcome
from project.http.request_state import current_request, request_state
from project.metrics import Counter, Histogram, Metrics, header_lines, sample_line
from project.runtime import Runtime, get_runtime
from project.spool import Spool, SpoolError
from project.version import VERSION

OTHER = "other"
"""Value of the labels `code` and `blueprint` for codes and blueprints that are not counted separately."""
FILE_ENDPOINTS = {"reports.export", "reports.download_txt", "reports.download_xlsx"}
BLUEPRINTS = frozenset({"auth", "reports", "files", "admin", "health", "static", OTHER})
"""Values of the label `blueprint`. `files` are the downloads of `reports`, counted separately because they are slow."""
STATUS_CLASSES = ("", "1xx", "2xx", "3xx", "4xx", "5xx")


class _ResponseMetrics:
    """Counters and histograms of responses, created before the fork because workers share them."""

    def __init__(self, metrics: Metrics) -> None:
        description = "Responses that are not attempts, by blueprint and status class"
        self._statuses = {
            (blueprint, status): metrics.register_counter(
                "useradd_answers_total", description, {"blueprint": blueprint, "status": status}
            )
            for blueprint in sorted(BLUEPRINTS)
            for status in STATUS_CLASSES[2:]
        }
        description = "Time from the arrival of a request to the first byte of its response, by blueprint"
        self._durations = {
            blueprint: metrics.register_histogram(
                "useradd_answer_duration_seconds", description, {"blueprint": blueprint}
            )
            for blueprint in sorted(BLUEPRINTS)
        }
        self._queue_durations = metrics.register_histogram(
            "useradd_queue_duration_seconds", "Time that a request waited for a thread"
        )
        description = "Time from the arrival of an attempt to its response, by outcome"
        durations = {
            outcome: metrics.register_histogram("useradd_attempt_duration_seconds", description, {"outcome": outcome})
            for outcome in Outcome
        }
        self._defects = metrics.register_counter(
            "useradd_defects_total", "Responses with status 500: defects of the service"
        )
        description = "Attempts, by outcome and reason"
        self._attempts: dict[str, tuple[Counter, Histogram]] = {
            code: (
                metrics.register_counter("useradd_attempts_total", description, {"outcome": outcome, "code": code}),
                durations[outcome],
            )
            for code, outcome in outcomes_by_code().items()
        }

    def count_response(self, response: Response) -> Response:
        """Count a response and its duration; return the response.

        Responses to attempts are counted by code, other responses by blueprint and status class. The time in the queue
        is observed, and responses with status 500 are also counted as defects.
        """
        state = request_state()
        seconds = time.monotonic() - state.arrival.started
        self._queue_durations.observe(state.arrival.waited_s)
        if state.attempt:
            self.count_attempt(state.code or OTHER, seconds)
        else:
            blueprint = _blueprint(current_request())
            counter = self._statuses[blueprint, STATUS_CLASSES[response.status_code // 100]]
            counter.add()
            self._durations[blueprint].observe(seconds)
        if response.status_code == 500:
            self._defects.add()
        return response

    def count_attempt(self, code: str, seconds: float) -> None:
        """Count an attempt by its code, or as OTHER if the code is unknown; observe its duration."""
        counter, histogram = self._attempts.get(code) or self._attempts[OTHER]
        counter.add()
        histogram.observe(seconds)


def outcomes_by_code() -> dict[str, Outcome]:
    """Return the codes that metrics count attempts by, mapped to their outcomes."""
    refusals = {code: entry.status for entries in (FIELD_CODES, PROBLEMS) for code, entry in entries.items()}
    refusals.pop("validation_failed")  # the code of the first invalid field is counted instead
    return {
        CREATED: Outcome.CREATED,
        DRY_RUN: Outcome.UNCHANGED,
        REPLAYED: Outcome.UNCHANGED,
        **{code: Outcome.of(status) for code, status in refusals.items()},
        OTHER: Outcome.FAILED,
    }


def _blueprint(request: Request) -> str:
    endpoint = request.endpoint or ""
    if endpoint in FILE_ENDPOINTS:
        return "files"
    name = endpoint.partition(".")[0]
    return name if name in BLUEPRINTS else OTHER


def init_app(app: Flask) -> None:
    """Register the metrics of responses and of the state of each process."""
    runtime = get_runtime(app)
    response_metrics = _ResponseMetrics(runtime.metrics)
    app.after_request(response_metrics.count_response)
    runtime.on_bulk_line.append(response_metrics.count_attempt)
    _add_process_metrics(runtime)


def _add_process_metrics(runtime: Runtime) -> None:
    metrics, spool, upkeep, read_database = runtime.metrics, runtime.spool, runtime.upkeep, runtime.read_database
    _add_database_metrics(metrics, {"database": "writing"}, runtime.database)
    _add_database_metrics(metrics, {"database": "reading"}, read_database)
    if read_database.replica:
        _add_database_metrics(metrics, {"database": "replica"}, read_database.replica)
        description = "Lag of the replica behind the primary; infinite while it does not answer"
        metrics.register_gauge(
            "useradd_replica_lag_seconds", description, lambda: read_database.replica_lag_s, combine=max
        )
    description = "Used share of the quota of the fullest process's spool; 1 also when its disk is unusable"
    metrics.register_gauge("useradd_spool_fullness_ratio", description, lambda: _spool_fullness(spool), combine=max)
    description = "Attempts that neither PostgreSQL nor the disk accepted: only the log has them"
    metrics.register_counter("useradd_attempts_lost_total", description, read=lambda: spool.lost_records)
    description = "Attempts drained from the spool into PostgreSQL"
    metrics.register_counter("useradd_attempts_drained_total", description, read=lambda: upkeep.drained_attempts)
    description = "Attempts that are not aggregated yet: statistics read each of them"
    metrics.register_gauge(
        "useradd_rollup_lag_attempts", description, lambda: upkeep.unaggregated_attempts, combine=max
    )
    description = "Difference between the clocks of PostgreSQL and this machine; above 60 nothing is deleted by age"
    metrics.register_gauge(
        "useradd_clock_difference_seconds", description, lambda: upkeep.clock_difference_s, combine=max
    )


def _add_database_metrics(metrics: Metrics, labels: dict[str, str], database: Database) -> None:
    gauge = partial(metrics.register_gauge, labels=labels)
    description = "Workers that find PostgreSQL unavailable"
    gauge("useradd_breaker_open_workers", description, lambda: database.breaker.unavailable_since is not None)
    gauge("useradd_database_connections_used", "Connections in use", lambda: database.connections_in_use)
    gauge("useradd_database_connections_max", "Maximum number of connections", lambda: database.max_connections)
    description = "Threads that wait for a permit or a connection"
    gauge("useradd_database_waiting_threads", description, lambda: database.waiting_threads)


def _spool_fullness(spool: Spool) -> float:
    try:
        return spool.fullness
    except SpoolError:
        return 1


def render_metrics() -> str:
    """Return the instance's metrics in Prometheus's text format, without querying PostgreSQL."""
    runtime = get_runtime()
    runtime.metrics.update()
    return runtime.metrics.text() + "".join(f"{line}\n" for line in _instance_metrics(runtime))


def _instance_metrics(runtime: Runtime) -> Iterator[str]:
    """Yield the lines of metrics that describe the whole instance instead of a process."""
    waiting, metrics = runtime.spool.status, runtime.metrics
    age_s = 0 if waiting.oldest is None else max(0, time.time() - waiting.oldest)
    for name, kind, description, value in (
        ("useradd_spool_attempts", "gauge", "Attempts that wait in the spool", waiting.records),
        ("useradd_spool_bytes", "gauge", "Bytes of these attempts", waiting.bytes),
        ("useradd_spool_oldest_seconds", "gauge", "How long the oldest of them has waited", age_s),
        ("useradd_spool_quarantined_lines", "gauge", "Lines in quarantine", waiting.quarantined),
        ("useradd_workers", "gauge", "Running workers", metrics.running_workers),
        ("useradd_workers_expected", "gauge", "Configured workers", metrics.expected_workers),
        ("useradd_workers_replaced_total", "counter", "Workers that died and were replaced", metrics.replaced_workers),
    ):
        yield from header_lines(name, kind, description)
        yield sample_line(name, {}, value)
    yield from header_lines("useradd_build_info", "gauge", "Version of the service and of Python")
    yield sample_line("useradd_build_info", {"version": VERSION, "python": platform.python_version()}, 1)
