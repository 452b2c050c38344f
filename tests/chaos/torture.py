"""`./run torture --minutes N`: inject random faults under load and print a tally."""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable

from tests.chaos.clocks import FaultyClock
from tests.chaos.disks import FaultyDisk
from tests.chaos.encodings import RussianServer
from tests.chaos.invariants import check_invariants
from tests.chaos.load import Answer, Client, Load
from tests.chaos.postgres import Postgres
from tests.chaos.processes import eventually
from tests.chaos.proxy import Proxy
from tests.chaos.service import Service, migrate
from tests.chaos.tally import table, tally
from tests.chaos.test_recovery import DELAY, NO_DELAY

MAX_RESPONSE_S = 3.6
CLIENTS = 6
PAUSE_S = 0.02
"""Pause between two requests of a client, so that some faults hit an idle service."""
CALM_S = (0.5, 3.0)
FAULT_S = (0.2, 6.0)
"""Bounds of a fault's duration: shorter and longer than the deadline of a request."""
RECOVERY_S = 30.0
STATEMENT_S, FLUSH_S = 1.6, 0.3
"""Additional seconds of a slow statement and of a slow flush."""
JUMP_S = 2 * 365 * 24 * 3600
EXPLAINED = ("worker died", "attempt not recorded", "spool unusable", "clocks differ")
"""Texts of ERROR lines that the faults explain."""


class Torture:
    """A primary with a synchronous standby, a proxy, the service, and injected faults."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - must be reproducible
        self.primary = Postgres().start()
        migrate(self.primary.url())
        self.standby = self.primary.start_standby()
        self.proxy = Proxy(self.primary.port)
        self.service = Service(self.primary.url(port=self.proxy.port), WORKERS="2", ATTEMPTS_KEEP_DAYS="1")
        folder = self.service.data_dir / "faulty"
        self.disk, self.clock = FaultyDisk(folder, self.service.data_dir / "data"), FaultyClock(folder)
        self.service.configure(**self.disk.settings)
        self.service.start()
        self.faults: Counter[str] = Counter()

    def run(self, minutes: float) -> list[Answer]:
        """Inject faults until the time is over; return the answers that clients got."""
        faults: list[Callable[[], None]] = [
            self.kill_postgres,
            self.freeze_postgres,
            self.restart_postgres,
            self.kill_backend,
            self.freeze_backend,
            self.reset_connections,
            self.partition,
            self.cut_commits,
            self.freeze_commits,
            self.freeze_standby,
            self.fail_over,
            self.kill_worker,
            self.freeze_worker,
            self.kill_service,
            self.slow_down_flushes,
            self.freeze_data_dir,
            self.slow_down_statements,
            self.jump_clock,
            self.refuse_in_windows_1251,
        ]
        end = time.monotonic() + 60 * minutes
        with Load(self.service, CLIENTS, pause_s=PAUSE_S) as load:
            while time.monotonic() < end:
                for fault in self._random.sample(faults, len(faults)):
                    self._wait(*CALM_S)
                    self.faults[fault.__name__.replace("_", " ")] += 1
                    fault()
                    print(".", end="", flush=True)
                    if time.monotonic() >= end:
                        break
            self.recover()
        print(flush=True)
        return load.answers

    def recover(self) -> None:
        """Wait until the service is ready and its database is up."""

        def is_up() -> bool:
            return self.service.get("/readyz") == 200 and '"database":"up"' in self._status()

        eventually(is_up, RECOVERY_S, "the service does not recover")

    def close(self) -> None:
        """Stop all processes and remove their files."""
        for resource in (self.service, self.proxy, self.standby, self.primary):
            resource.close()

    # --- Faults -------------------------------------------------------------------------------------------------

    def kill_postgres(self) -> None:
        """SIGKILL the primary and start it after a while."""
        self.primary.kill()
        self._wait(*FAULT_S)
        self.primary.start()

    def freeze_postgres(self) -> None:
        """SIGSTOP the primary for a while."""
        self.primary.freeze()
        self._wait(*FAULT_S)
        self.primary.thaw()

    def restart_postgres(self) -> None:
        """Restart the primary as an operator does."""
        self.primary.restart()

    def kill_backend(self) -> None:
        """SIGKILL one server process, so that PostgreSQL ends all sessions and recovers."""
        self._with_random_backend(self.primary.kill_one_backend)
        self.primary.wait_ready()

    def freeze_backend(self) -> None:
        """SIGSTOP one server process for a while."""

        def freeze(pid: int) -> None:
            self.primary.freeze_backend(pid)
            self._wait(*FAULT_S)
            self.primary.thaw_backend(pid)

        self._with_random_backend(freeze)

    def reset_connections(self) -> None:
        """Reset every connection (RST)."""
        self.proxy.reset()

    def partition(self) -> None:
        """Drop all traffic between service and PostgreSQL for a while."""
        self.proxy.blackhole()
        self._wait(*FAULT_S)
        self.proxy.pass_through()

    def cut_commits(self) -> None:
        """Break five connections, each before or after its COMMIT arrives."""
        for _ in range(5):
            trap = self._random.choice([self.proxy.drop_commit, self.proxy.drop_commit_reply])()
            self._await(trap.wait)

    def freeze_commits(self) -> None:
        """Deliver a COMMIT, but withhold its reply for a while."""
        trap = self.proxy.freeze_commit()
        self._await(trap.wait)
        self._wait(*FAULT_S)
        self.proxy.pass_through()

    def freeze_standby(self) -> None:
        """SIGSTOP the synchronous standby, so that every COMMIT waits."""
        self.standby.freeze()
        self._wait(*FAULT_S)
        self.standby.thaw()

    def fail_over(self) -> None:
        """Kill the primary, promote the standby and start a new standby."""
        self.primary.kill()
        self.standby.promote()
        self.proxy.retarget(self.standby.port)
        self.primary.close()
        self.primary = self.standby
        self.standby = self.primary.start_standby()

    def kill_worker(self) -> None:
        """SIGKILL one worker."""
        if self.service.workers():
            self.service.kill_worker()

    def freeze_worker(self) -> None:
        """SIGSTOP one worker for less time than its clients wait."""
        workers = self.service.workers()
        if workers:
            self.service.freeze(self._random.choice(workers))
            self._wait(0.1, 1.0)
            self.service.thaw()

    def kill_service(self) -> None:
        """SIGKILL all processes of the service and start it again."""
        self.service.kill()
        self.service.start()

    def slow_down_flushes(self) -> None:
        """Make flushes of the spool take longer while the primary is frozen."""
        self.disk.slow_down(FLUSH_S)
        self.freeze_postgres()
        self.disk.slow_down(0)

    def freeze_data_dir(self) -> None:
        """Freeze the disk of the spool for a while."""
        self.disk.freeze()
        self._wait(*FAULT_S)
        self.disk.thaw()

    def slow_down_statements(self) -> None:
        """Make every INSERT of an attempt take longer for a while, after a short outage."""
        self.primary.execute(DELAY.format(seconds=STATEMENT_S, table="attempts", each="statement", condition=""))
        self.partition()
        self._wait(*FAULT_S)
        self.primary.execute(NO_DELAY)

    def jump_clock(self) -> None:
        """Set the clock of the instance two years ahead or back for a while."""
        self.clock.jump(self._random.choice([JUMP_S, -JUMP_S]))
        self._wait(*FAULT_S)
        self.clock.jump(0)

    def refuse_in_windows_1251(self) -> None:
        """Make PostgreSQL refuse connections for a while, with messages in another encoding."""
        russian = RussianServer()
        self.proxy.retarget(russian.port)
        self.proxy.reset()
        self._wait(*FAULT_S)
        self.proxy.retarget(self.primary.port)
        russian.close()

    # ------------------------------------------------------------------------------------------------------------

    def _wait(self, least: float, most: float) -> None:
        time.sleep(self._random.uniform(least, most))  # a fixed duration on purpose, not a condition to poll for

    def _await(self, wait: Callable[[], None]) -> None:
        try:
            wait()
        except AssertionError:
            print("(no COMMIT)", end="", flush=True)

    def _with_random_backend(self, act: Callable[[int], object]) -> None:
        """Call `act` with the PID of a random backend of the service, if there is one."""
        backends = self.primary.backends()
        if backends:
            act(self._random.choice(backends))

    def _status(self) -> str:
        client = Client(self.service)
        try:
            return client.get("/status")[1]
        except OSError:
            return ""
        finally:
            client.close()


def main() -> None:
    """Run the torture, print the tally; exit with 1 if an invariant does not hold."""
    parser = argparse.ArgumentParser(prog="./run torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="repeat the order of faults of an earlier run"
    )
    options = parser.parse_args()
    print(f"torture for {options.minutes:g} minutes, seed {options.seed}", flush=True)
    torture = Torture(options.seed)
    try:
        answers = torture.run(options.minutes)
        check_invariants(torture.primary, torture.service, answers, allowed_errors=EXPLAINED, drain_s=RECOVERY_S)
        print(table(tally(torture.primary.execute, answers, torture.faults)))
        late = [answer for answer in answers if answer.status and answer.seconds > MAX_RESPONSE_S]
        if late:
            sys.exit(f"{len(late)} responses took longer than {MAX_RESPONSE_S} s")
    finally:
        torture.close()


if __name__ == "__main__":
    main()
