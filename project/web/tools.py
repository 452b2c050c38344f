"""What doors need of the application at hand: its settings, its database, its passwords, its disk."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from flask import Flask, current_app
from sqlalchemy import Engine

from config import Config
from project.domain.passwords import Passwords, Secret
from project.extensions import db
from project.metrics import Metrics
from project.outage import Database, Reading, connect_in_turn
from project.services.api_keys import ApiKeys
from project.services.limits import Limits, Rules
from project.services.upkeep import Upkeep
from project.spool import Spool, SpoolError
from project.web import logs

log = logging.getLogger(__name__)

CONNECTIONS, READING_CONNECTIONS = 5, 2
READING_SLOTS, READING_QUEUE, SPARE_SLOTS = 3, 3, 2
"""Threads that statistics may fill, that may wait for these, and that are left for health checks and refusals."""

REPLICA_SHARE = 0.75
"""Part of a request's time that a replica may take, so that the primary is left some to answer instead."""
STOP_S = 2.0
"""Seconds that the upkeep may take to end its round."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The parts that use cases take as arguments, made once for each application."""

    config: Config
    database: Database
    reading: Reading
    """Its own small pool for statistics and exports: they must not take the connections of /useradd."""
    passwords: Passwords
    api_keys: ApiKeys
    limits: Limits
    rules: Rules
    spool: Spool
    upkeep: Upkeep
    metrics: Metrics
    ending: list[Callable[[], None]] = field(default_factory=list)
    """What else ends with this process."""

    def check(self) -> None:
        """See that the spool can be used. Raises SpoolError with a message for the operator."""
        self.spool.open()
        self.spool.close()

    def start(self, number: int) -> None:
        """Begin to serve as worker `number`: what a killed one left behind becomes known now, not with a request."""
        logs.buffer()
        self.metrics.begin(number)
        try:
            self.spool.open()
        except SpoolError as error:  # users can be created all the same
            log.error("the spool cannot be used", extra={"cause": str(error)})  # noqa: TRY400 - the cause says it all
        self.upkeep.ensure_running()

    def stop(self) -> None:
        """End what start() began. What is in the spool waits for the next start."""
        self.upkeep.stop(STOP_S)
        for end in self.ending:
            end()
        logs.flush()


def init_app(app: Flask, config: Config) -> None:
    """Make the tools of this application."""
    secrets = (config.password_secret, *config.password_secret_fallbacks)
    slots = config.threads - READING_SLOTS - READING_QUEUE - SPARE_SLOTS
    with app.app_context():
        engines = dict(db.engines)
    for engine in engines.values():
        connect_in_turn(engine)
    writing = Database(engines[None], config.request_deadline_s, name="writing", slots=slots, connections=CONNECTIONS)
    reading = _reading(engines["reading"], config.request_deadline_s, "reading")
    if "replica" in engines:
        reading.replica = _reading(engines["replica"], REPLICA_SHARE * config.request_deadline_s, "replica")
    spool = Spool(config.data_dir / "spool")
    metrics = Metrics(config.workers)
    app.extensions["useradd"] = Tools(
        config=config,
        database=writing,
        reading=reading,
        passwords=Passwords(tuple(Secret(secret.encode()) for secret in secrets), config.password_hash),
        api_keys=ApiKeys(writing),
        limits=Limits(config.ratelimit_storage_uri, enabled=config.ratelimit_enabled),
        rules=Rules.of(config.ratelimit_per_client, config.ratelimit_global, config.ratelimit_conflicts),
        spool=spool,
        upkeep=Upkeep(writing, reading, spool, config.attempts_keep_days, metrics.note),
        metrics=metrics,
    )


def tools(app: Flask | None = None) -> Tools:
    """Return the tools of `app`, or of the application that serves this request."""
    found: Tools = (app or current_app).extensions["useradd"]
    return found


def _reading(engine: Engine, deadline_s: float, name: str) -> Reading:
    return Reading(
        engine,
        deadline_s,
        name=name,
        slots=READING_SLOTS,
        connections=READING_CONNECTIONS,
        queue=READING_QUEUE,
        is_spare=name == "replica",
    )
