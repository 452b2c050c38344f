"""Background work of a serving process: probe PostgreSQL, drain the spool, aggregate, delete old rows."""

import logging
import math
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

PAUSE_S = (0.15, 0.35)
"""Bounds of the random pause between two rounds: instances must not probe in step."""
ORPHANS_EVERY_S = 5
PURGE_EVERY_S = 3600
AFTER_ERROR_S = 5
PURGE_BATCH = 1000
PRUNE_EVERY_S = 60
MEASURE_EVERY_S = 1.0
MASK_EVERY_S, MASK_S = 60, 3600
"""How often the previous version's new attempts are masked again, and for how long it may run beside this one."""
AGGREGATION_MINIMUM, AGGREGATION_BATCH = 2_000, 5_000
"""Attempts that are worth an aggregation step, and how many one transaction aggregates."""
CATCH_UP_S = 1.0
"""Time limit in seconds for aggregation in one round: the spool must not wait."""


class Upkeep:
    """The upkeep thread of this process; started when first needed, and again after a fork."""

    def __init__(
        self,
        database: Database,
        read_database: ReadDatabase,
        spool: Spool,
        keep_days: int,
        phone_region: str,
        update_metrics: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._read_database = read_database
        self._spool = spool
        self._max_age = timedelta(days=keep_days)
        self._phone_region = phone_region
        self._update_metrics = update_metrics
        self.drained = 0
        """Attempts that this process has drained from spools."""
        self.unaggregated = 0
        """Attempts that were not pre-aggregated when last checked."""
        self._pid = 0
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._orphans_at = self._purge_at = self._prune_at = self._measure_at = self._mask_at = 0.0
        self._mask_until = time.monotonic() + MASK_S

    @property
    def is_stopping(self) -> bool:
        """Whether this process is stopping."""
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
        """Make /readyz tell load balancers that this process stops; requests and the thread continue."""
        self._stopping.set()

    def stop(self, timeout_s: float) -> None:
        """Stop the thread and release the spool."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self._spool.close()

    def _run(self) -> None:
        while not self._stopping.wait(_random.uniform(*PAUSE_S)):
            try:
                self._update_metrics()
                self.run_round()
            except Exception:
                log.exception("upkeep failed")
                self._stopping.wait(AFTER_ERROR_S)

    def run_round(self) -> None:
        """Do the work that is due. It is also the breaker's probe: only a write proves that writes work."""
        with suppress(DatabaseUnavailableError):
            if self._spool.has_records():
                self._count_drained(attempts.drain(self._database, self._spool))
            elif self._database.breaker.is_open:
                self._database.run_once(delete_expired_keys, PURGE_BATCH)
            self._run_periodic_work()
        for database in self._read_database.members:
            with suppress(DatabaseUnavailableError):
                if database.breaker.is_open:
                    database.run_once(ping)
        self._measure_lag()

    def _measure_lag(self) -> None:
        """Measure the replica's lag even if nobody reads."""
        if time.monotonic() >= self._measure_at:
            self._measure_at = time.monotonic() + MEASURE_EVERY_S
            self._read_database.measure_lag()

    def _run_periodic_work(self) -> None:
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
        if self._max_age and now >= self._prune_at:
            deleted = attempts.prune_batch(self._database, self._max_age)
            self._prune_at = now if deleted else now + PRUNE_EVERY_S
        if now >= self._mask_at:
            self._mask_again(now)
        while True:
            progress = self._database.run_once(aggregate, AGGREGATION_MINIMUM, AGGREGATION_BATCH)
            self.unaggregated = progress.remaining
            if progress.done < AGGREGATION_BATCH or self._stopping.is_set() or time.monotonic() > now + CATCH_UP_S:
                break

    def _mask_again(self, now: float) -> None:
        """Mask a batch of stored attempts by the current rules, until those of the previous version are done."""
        if attempts.mask_batch(self._database, self._phone_region):
            return
        self._mask_at = now + MASK_EVERY_S
        if now >= self._mask_until:
            attempts.finish_masking(self._database)
            self._mask_at = math.inf

    def _count_drained(self, count: int) -> None:
        self.drained += count
        if count:
            log.info("spool drained", extra={"attempts": count})
