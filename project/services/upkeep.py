"""What a process does beside its requests: see that PostgreSQL is back, empty the spool, count, forget what is old."""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from project.database import Database, ReadDatabase
from project.domain.errors import DatabaseUnavailableError
from project.queries.aggregates import aggregate
from project.queries.maintenance import delete_expired_keys, ping
from project.services import attempts
from project.spool import Spool

log = logging.getLogger(__name__)
_random = random.SystemRandom()

ROUND_S = (0.15, 0.35)
"""Bounds of the pause between two rounds; drawn anew each time, so that instances do not probe in step."""
ORPHANS_EVERY_S = 5
PURGE_EVERY_S = 3600
AFTER_DEFECT_S = 5
PURGE_BATCH = 1000
PRUNE_EVERY_S = 60
MEASURE_EVERY_S = 1.0
AGGREGATE_FROM, AGGREGATION_BATCH = 2_000, 5_000
"""Attempts that are worth counting beforehand, and how many in one transaction."""
CATCH_UP_S = 1.0
"""How long a round may count where much was not counted yet: the spool must not wait."""


class Upkeep:
    """A thread of the process that serves; started when first needed, and again after a fork."""

    def __init__(
        self,
        database: Database,
        read_database: ReadDatabase,
        spool: Spool,
        keep_days: int,
        update_metrics: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._read_database = read_database
        self._spool = spool
        self._keep = timedelta(days=keep_days)
        self._update_metrics = update_metrics
        self.drained = 0
        """Attempts that this process has brought in from the disk."""
        self.unaggregated = 0
        """Attempts that were not counted beforehand when it last looked."""
        self._pid = 0
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._orphans_at = self._purge_at = self._prune_at = self._measure_at = 0.0

    @property
    def is_stopping(self) -> bool:
        """Whether this process has begun to stop."""
        return self._stopping.is_set()

    def ensure_running(self) -> None:
        """Start the thread if this process has none."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
                self._thread.start()
                self._pid = os.getpid()

    def begin_stop(self) -> None:
        """Let balancers know that this process takes nothing new; what runs goes on."""
        self._stopping.set()

    def stop(self, timeout_s: float) -> None:
        """End the thread and give the spool back."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self._spool.close()

    def _run(self) -> None:
        while not self._stopping.wait(_random.uniform(*ROUND_S)):
            try:
                self._update_metrics()
                self.round()
            except Exception:
                log.exception("upkeep failed")
                self._stopping.wait(AFTER_DEFECT_S)

    def round(self) -> None:
        """Do what is due. Real work is the probe: what drains has been written, not only promised."""
        with suppress(DatabaseUnavailableError):
            if self._spool.has_records():
                self._count_drained(attempts.drain(self._database, self._spool))
            elif self._database.breaker.is_open:
                self._database.run_once(delete_expired_keys, PURGE_BATCH)
            self._do_rarely()
        for way in self._read_database.members:
            with suppress(DatabaseUnavailableError):
                if way.breaker.is_open:
                    way.run_once(ping)
        self._measure_lag()

    def _measure_lag(self) -> None:
        """Know how far behind the replica is, also while nobody reads."""
        if time.monotonic() >= self._measure_at:
            self._measure_at = time.monotonic() + MEASURE_EVERY_S
            self._read_database.measure_lag()

    def _do_rarely(self) -> None:
        now = time.monotonic()
        if now >= self._orphans_at:
            self._orphans_at = now + ORPHANS_EVERY_S
            self._count_drained(attempts.drain_orphans(self._database, self._spool))
        if self._database.breaker.is_open:
            return
        if now >= self._purge_at:
            self._purge_at = now + PURGE_EVERY_S
            while self._database.run_once(delete_expired_keys, PURGE_BATCH) == PURGE_BATCH:
                pass
        if self._keep and now >= self._prune_at:
            forgotten = attempts.forget_some(self._database, self._keep)
            self._prune_at = now if forgotten else now + PRUNE_EVERY_S
        while True:
            progress = self._database.run_once(aggregate, AGGREGATE_FROM, AGGREGATION_BATCH)
            self.unaggregated = progress.remaining
            if progress.done < AGGREGATION_BATCH or self._stopping.is_set() or time.monotonic() > now + CATCH_UP_S:
                break

    def _count_drained(self, number: int) -> None:
        self.drained += number
        if number:
            log.info("spool drained", extra={"attempts": number})
