"""Background jobs: probe PostgreSQL, drain the spool, aggregate attempts, delete old rows."""

import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from project.database import Database, ReadDatabase, deadline
from project.domain.errors import DatabaseUnavailableError
from project.queries.aggregates import aggregate_attempts
from project.queries.maintenance import measure_clock_difference, ping
from project.services import attempts, audit
from project.services.activity import Activity
from project.services.attempts import Delivery
from project.spool import Spool, SpoolError

log = logging.getLogger(__name__)
_random = random.SystemRandom()

PAUSE_S = (0.15, 0.35)
"""Bounds in seconds of the random pause between two rounds, so that instances do not probe at the same time."""
DRAIN_ORPHANS_EVERY_S = 5
PURGE_EVERY_S = 3600
RETRY_AFTER_ERROR_S = 5
PRUNE_EVERY_S = COMPARE_CLOCKS_EVERY_S = 60
MEASURE_LAG_EVERY_S = 1.0
CHECK_SPOOL_EVERY_S = 0.5
CHECK_DATABASE_EVERY_S = 0.5
MASK_EVERY_S, MASK_FOR_S = 60, 3600
"""Seconds between two rounds of masking stored attempts, and seconds after the start for which rounds are repeated,
because processes of the previous version may still write attempts with their masking rules."""
AGGREGATION_MINIMUM, AGGREGATION_BATCH = 2_000, 5_000
"""Minimum number of unaggregated attempts at which aggregation begins, and maximum number per transaction."""
MAX_AGGREGATION_S = 1.0
"""Maximum number of seconds of aggregation per round, because pruning runs in the same thread."""


@dataclass
class Job:
    """A function that is called repeatedly. Jobs of the same thread run one after the other."""

    work: Callable[[], bool | None]
    """The function; returns True to be called again in the next round."""
    every_s: float = 0.0
    """Seconds between two runs; 0 means every round."""
    database: Database | None = None
    """The database that the work needs. While the breaker of the database is open, the job does not run."""
    due_at: float = 0.0
    """Time of the next run by time.monotonic()."""

    def run(self) -> None:
        """Call `work` if it is due, and compute the time of the next run.

        Does nothing while the breaker of `database` is open. Ignores DatabaseUnavailableError, and logs other errors.
        """
        now = time.monotonic()
        if now < self.due_at or (self.database and self.database.breaker.is_open):
            return
        self.due_at = now + self.every_s
        try:
            with suppress(DatabaseUnavailableError):
                if self.work():
                    self.due_at = now
        except Exception:
            log.exception("upkeep failed")
            self.due_at = now + RETRY_AFTER_ERROR_S


class Upkeep:
    """The background threads of this process and their jobs."""

    def __init__(
        self,
        database: Database,
        read_database: ReadDatabase,
        spool: Spool,
        keep_days: int,
        phone_region: str,
        update_metrics: Callable[[], None] = lambda: None,
        activity: Activity | None = None,
    ) -> None:
        self._activity = activity or Activity(database)
        self._database = database
        self._read_database = read_database
        self._spool = spool
        self._max_age = timedelta(days=keep_days)
        self._phone_region = phone_region
        self._delivery = Delivery(database)
        self.drained_attempts = 0
        """Number of attempts that this process has drained from the spool."""
        self.unaggregated_attempts = 0
        """Number of attempts that were not aggregated after the last aggregation step."""
        self.clock_difference_s = 0.0
        """Seconds by which the clocks of PostgreSQL and this machine differed at the last check."""
        self._pid = 0
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._spool_problem: str | None = None
        self._masking = Job(self._mask_again, MASK_EVERY_S, database=database)
        self._mask_until = time.monotonic() + MASK_FOR_S
        self._jobs = {
            "disk": [Job(self._check_spool, CHECK_SPOOL_EVERY_S)],
            "probe": [Job(update_metrics), Job(self._report_spool), Job(self._probe), _check_job(database)],
            "drain": [
                Job(self._drain, database=database),
                Job(self._drain_orphans, DRAIN_ORPHANS_EVERY_S, database=database),
                Job(self._activity.flush, database=database),
            ],
            "tables": [
                Job(self._compare_clocks, COMPARE_CLOCKS_EVERY_S, database=database),
                Job(partial(attempts.purge_keys, database), PURGE_EVERY_S, database=database),
                Job(self._aggregate, database=database),
                *(self._prune_jobs() if keep_days else []),
                self._masking,
            ],
            **{
                f"probe-{index}": [Job(partial(_probe_read_database, one)), _check_job(one)]
                for index, one in enumerate(read_database.databases)
            },
            **({"lag": [Job(self._measure_lag, MEASURE_LAG_EVERY_S)]} if read_database.replica else {}),
        }
        """Name of a thread -> jobs of the thread."""

    @property
    def is_stopping(self) -> bool:
        """Whether this process is stopping."""
        return self._stopping.is_set()

    def ensure_running(self) -> None:
        """Start the threads unless this process has started them. A fork does not copy threads."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                self._threads = [
                    threading.Thread(target=self._run, args=(jobs,), name=f"upkeep-{name}", daemon=True)
                    for name, jobs in self._jobs.items()
                ]
                for thread in self._threads:
                    thread.start()
                self._pid = os.getpid()

    def begin_stop(self) -> None:
        """Make /readyz report that this process is stopping, and end the threads."""
        self._stopping.set()

    def stop(self, timeout_s: float) -> None:
        """Stop the threads, write queued activity, and release the spool."""
        self._stopping.set()
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        with suppress(DatabaseUnavailableError), deadline(max(0.0, end - time.monotonic())):
            self._activity.flush()
        self._spool.close()

    def _run(self, jobs: Iterable[Job]) -> None:
        self.run_round(jobs)
        while not self._stopping.wait(_random.uniform(*PAUSE_S)):
            self.run_round(jobs)

    def run_round(self, jobs: Iterable[Job] | None = None) -> None:
        """Run the jobs that are due, among `jobs` or by default among those of all threads."""
        for job in jobs or [job for group in self._jobs.values() for job in group]:
            job.run()

    def _check_spool(self) -> None:
        self._spool.check()

    def _report_spool(self) -> None:
        """Log if the spool has become unusable or usable since the last round.

        Another thread checks the disk, in _check_spool(), because access to a disk may block forever.
        """
        before, self._spool_problem = self._spool_problem, self._spool.problem
        if self._spool_problem and self._spool_problem != before:
            log.error("spool unusable", extra={"cause": self._spool_problem})
        elif before and not self._spool_problem:
            log.warning("spool usable again")

    def _probe(self) -> None:
        if self._database.breaker.is_open:
            self._delivery.probe()

    def _drain(self) -> None:
        if self._spool.has_records():
            self._count_drained(self._delivery.drain)

    def _drain_orphans(self) -> bool:
        """Drain the records of dead processes; return whether to try again soon.

        Does nothing before this process has locked its folder, which would be taken for an orphan.
        """
        if not self._spool.is_open:
            return True
        self._count_drained(self._delivery.drain_orphans)
        return False

    def _compare_clocks(self) -> None:
        self.clock_difference_s = self._database.run_once(measure_clock_difference)

    def _mask_again(self) -> bool:
        """Mask a batch of attempts; return whether any were left.

        If none are left after MASK_FOR_S, masking ends.
        """
        if attempts.mask_batch(self._database, self._phone_region):
            return True
        if time.monotonic() >= self._mask_until:
            attempts.finish_masking(self._database)
            self._masking.every_s = math.inf
        return False

    def _count_drained(self, drain: Callable[[Spool], int]) -> None:
        try:
            count = drain(self._spool)
        except (OSError, SpoolError):
            if self._spool.check() is None:
                raise
            return  # _report_spool() logs the problem
        self.drained_attempts += count
        if count:
            log.info("spool drained", extra={"attempts": count})

    def _prune_jobs(self) -> list[Job]:
        prune_audit = partial(audit.prune_batch, self._database, self._max_age)
        return [Job(job, PRUNE_EVERY_S, database=self._database) for job in (self._prune, prune_audit)]

    def _prune(self) -> bool:
        return attempts.prune_batch(self._database, self._max_age) > 0

    def _aggregate(self) -> None:
        end = time.monotonic() + MAX_AGGREGATION_S
        while not self._stopping.is_set() and time.monotonic() < end:
            progress = self._database.run_once(aggregate_attempts, AGGREGATION_MINIMUM, AGGREGATION_BATCH)
            self.unaggregated_attempts = progress.remaining
            if progress.aggregated < AGGREGATION_BATCH:
                break

    def _measure_lag(self) -> None:
        """Measure the lag of the replica, even if no requests read from the replica."""
        self._read_database.measure_lag()


def _probe_read_database(database: Database) -> None:
    if database.breaker.is_open:
        database.run_once(ping)


def _check_job(database: Database) -> Job:
    return Job(database.check, CHECK_DATABASE_EVERY_S, database=database)
