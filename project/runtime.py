"""Creates the runtime of an application: the objects that use cases need."""

from collections.abc import Callable
from dataclasses import dataclass, field

from flask import Flask, current_app
from sqlalchemy import Engine

from config import Config
from project.database import Database, ReadDatabase, install_host_failover
from project.disk import call_with_timeout
from project.domain.passwords import Passwords, Secret
from project.domain.rate_limits import UseraddLimits
from project.extensions import db
from project.metrics import Metrics
from project.services.activity import Activity
from project.services.api_keys import ApiKeys
from project.services.rate_limiting import RateLimiter
from project.services.upkeep import Upkeep
from project.spool import NO_RESPONSE, Spool, SpoolError

CONNECTIONS, READ_CONNECTIONS = 5, 2
"""Maximum numbers of connections that requests use for writing and for reading, per process."""
UPKEEP_CONNECTIONS, READ_UPKEEP_CONNECTIONS = 3, 1
"""Additional connections for upkeep, so that probes, drains and maintenance of tables do not wait for each other."""
READ_PERMITS, READ_MAX_WAITING, SPARE_THREADS = 3, 3, 2
"""Maximum numbers of threads that read statistics and that wait to do so, and number of threads that remain free for
health checks and refusals."""

REPLICA_SHARE = 0.75
"""Share of a request's deadline for the replica, so that time remains to query the primary if the replica fails."""
SPOOL_OPEN_S = 10.0
"""Seconds to wait for the disk of DATA_DIR when the service starts."""
UPKEEP_STOP_S = 2.0
"""Seconds in which upkeep may finish its current jobs when the service stops."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """The objects that use cases take as arguments, created once per application."""

    config: Config
    database: Database
    read_database: ReadDatabase
    """Database for statistics and exports, with a separate pool, so that they take no connections from /useradd."""
    passwords: Passwords
    api_keys: ApiKeys
    rate_limiter: RateLimiter
    useradd_limits: UseraddLimits
    spool: Spool
    upkeep: Upkeep
    activity: Activity
    metrics: Metrics
    on_bulk_line: list[Callable[[str, float], None]] = field(default_factory=list)
    """Callbacks for each line of a bulk request: take its code and its duration in seconds."""
    on_start: list[Callable[[], None]] = field(default_factory=list)
    """Callbacks before this process serves its first request."""
    on_stop: list[Callable[[], None]] = field(default_factory=list)
    """Callbacks after the last response of this process, called in reverse order."""

    def check_spool(self) -> None:
        """Check that the spool can be opened. Raises SpoolError with a message for the operator."""
        try:
            call_with_timeout(self.spool.open, SPOOL_OPEN_S)
        except TimeoutError:
            raise SpoolError(NO_RESPONSE) from None
        self.spool.close()

    def start(self, worker: int) -> None:
        """Run the `on_start` callbacks, write to row `worker` of the metrics, and start the upkeep."""
        for callback in self.on_start:
            callback()
        self.metrics.attach(worker)
        self.upkeep.ensure_running()

    def stop(self) -> None:
        """Stop the upkeep, then run the `on_stop` callbacks in reverse order.

        The spool is released, and its records are kept.
        """
        self.upkeep.stop(UPKEEP_STOP_S)
        for callback in reversed(self.on_stop):
            callback()


def init_app(app: Flask, config: Config) -> None:
    """Create the runtime of an application, which get_runtime() returns."""
    secrets = (config.password_secret, *config.password_secret_fallbacks)
    with app.app_context():
        engines = dict(db.engines)
    for engine in engines.values():
        install_host_failover(engine)
    database = Database(
        engines[None],
        config.request_deadline_s,
        name="writing",
        permits=config.threads - READ_PERMITS - READ_MAX_WAITING - SPARE_THREADS,
        connections=CONNECTIONS,
    )
    read_database = _read_database(engines["reading"], config.request_deadline_s, "reading")
    if "replica" in engines:
        read_database.replica = _read_database(engines["replica"], REPLICA_SHARE * config.request_deadline_s, "replica")
    spool = Spool(config.data_dir / "spool")
    metrics, activity = Metrics(config.workers), Activity(database)
    app.extensions["useradd"] = Runtime(
        config=config,
        database=database,
        read_database=read_database,
        passwords=Passwords(tuple(Secret(secret.encode()) for secret in secrets), config.password_hash),
        api_keys=ApiKeys(database, activity.record_use),
        rate_limiter=RateLimiter(config.ratelimit_storage_uri, enabled=config.ratelimit_enabled),
        useradd_limits=UseraddLimits.per_minute(
            config.ratelimit_per_client, config.ratelimit_global, config.ratelimit_conflicts
        ),
        spool=spool,
        upkeep=Upkeep(
            database, read_database, spool, config.attempts_keep_days, config.phone_region, metrics.update, activity
        ),
        activity=activity,
        metrics=metrics,
    )


def get_runtime(app: Flask | None = None) -> Runtime:
    """Return the runtime of `app`, by default that of the current application."""
    runtime: Runtime = (app or _current_app()).extensions["useradd"]
    return runtime


_current_app: Callable[[], Flask] = current_app._get_current_object  # type: ignore[attr-defined]
"""Returns the application instead of the proxy current_app, which adds 0.25 µs to each attribute access."""


def _read_database(engine: Engine, deadline_s: float, name: str) -> ReadDatabase:
    return ReadDatabase(
        engine,
        deadline_s,
        name=name,
        permits=READ_PERMITS,
        connections=READ_CONNECTIONS,
        max_waiting=READ_MAX_WAITING,
        has_fallback=name == "replica",
    )
