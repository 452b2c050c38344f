"""`./run cluster --minutes N`: inject faults into a cluster under load, print a tally.

One instance of the service connects to PostgreSQL by a list of all hosts, the other through HAProxy. Every fault is
repaired before the next one, because three hosts tolerate only one.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.invariants import check_invariants
from tests.chaos.load import Answer
from tests.chaos.processes import eventually
from tests.chaos.service import Service, migrate
from tests.chaos.tally import Lines, table, tally
from tests.cluster.clients import Clients, Reader, Received, longest_gap
from tests.cluster.database import Database, DatabaseHost
from tests.cluster.network import Network

ANSWERED_WITHIN_S = 3.6
CLIENTS, PAUSE_S, READ_EVERY_S = 6, 0.05, 0.25
INSTANCES = {"app1": 21, "app2": 22}
CALM_S = 3.0
RECOVERY_S = 30.0
GIVEN_UP_S = 90.0
"""Time limit for a new primary: Patroni's ttl, twice if etcd's leader was on the same host."""
EXPLAINED = ("worker died", "attempt not recorded")
"""Texts of ERROR lines that killed processes explain."""


class Cluster:
    """All hosts, the two instances, and the faults injected into them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - must be reproducible
        network = Network(folder)
        self.database = Database(network)
        hosts = [network.host(name, number) for name, number in INSTANCES.items()]
        urls = (
            (self.database.url_of_hosts, self.database.url_of_hosts),
            (self.database.url_of_balancer(), self.database.url_of_balancer(5433)),
        )
        self.instances = [
            Service(url, host=host.address, prefix=host.prefix, WORKERS="1", DATABASE_READ_URL=read_url)
            for (url, read_url), host in zip(urls, hosts, strict=True)
        ]
        self.reader = Reader(self.instances, READ_EVERY_S)
        self.gaps: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        """Begin and end of each fault."""

    def start(self) -> None:
        """Start PostgreSQL, then the instances, which share their secrets."""
        self.database.start()
        migrate(self.database.url_of_hosts + "?target_session_attrs=read-write")
        first, *others = self.instances
        first.start()
        for other in others:
            (other.data_dir / "data").mkdir(mode=0o700)
            shutil.copy2(first.data_dir / "data" / "secret_key", other.data_dir / "data" / "secret_key")
            other.start()

    def inject_faults(self, minutes: float) -> Clients:
        """Inject one fault after the other until the time is over; return the clients."""
        faults: list[Callable[[], None]] = [
            self.kill_primary,
            self.cut_off_primary,
            self.power_off_primary,
            self.switch_over,
            self.kill_etcd_leader,
            self.kill_standby,
            self.kill_instance,
        ]
        end = time.monotonic() + 60 * minutes
        with self.reader, Clients(self.instances, CLIENTS, PAUSE_S) as clients:
            while time.monotonic() < end:
                for fault in self._random.sample(faults, len(faults)):
                    time.sleep(CALM_S)  # without faults, so that the gap counts for the next fault only
                    with self._timed(fault.__name__.replace("_", " ")):
                        fault()
                        self.database.await_healthy()
                    if time.monotonic() >= end:
                        break
            self._await_recovery()
        return clients

    @contextmanager
    def _timed(self, fault: str) -> Iterator[None]:
        began = time.monotonic()
        print(f"{fault} ...", end=" ", flush=True)
        yield
        self.gaps[fault].append((began, time.monotonic()))
        print(f"recovered after {time.monotonic() - began:.0f} s", flush=True)

    def _await_recovery(self) -> None:
        for each in self.instances:
            eventually(lambda each=each: each.get("/readyz") == 200, RECOVERY_S, "an instance did not recover")  # type: ignore[misc]

    def close(self) -> None:
        """Stop the instances; all other processes end with the PID namespace."""
        for instance in self.instances:
            instance.close()

    # --- Faults -------------------------------------------------------------------------------------------------

    def kill_primary(self) -> None:
        """SIGKILL the primary's PostgreSQL."""
        self.database.leader().kill_postgres()
        self.database.await_unhealthy()

    def cut_off_primary(self) -> None:
        """Disconnect the primary's host for a while."""
        primary = self.database.leader()
        primary.host.pull_cable()
        self._await_new_primary(primary)
        primary.host.plug_in()

    def _await_new_primary(self, primary: DatabaseHost) -> None:
        eventually(lambda: self.database.leader() is not primary, GIVEN_UP_S, "no new primary")
        time.sleep(CALM_S)

    def power_off_primary(self) -> None:
        """SIGKILL all processes on the primary's host and start them after a while."""
        primary = self.database.leader()
        primary.kill_all()
        self._await_new_primary(primary)
        primary.start()

    def switch_over(self) -> None:
        """Switch over to the synchronous standby, as before an upgrade."""
        leader, candidate = self.database.leader(), self.database.synchronous_standby()
        leader.patroni("switchover", {"leader": leader.name, "candidate": candidate.name})
        eventually(lambda: self.database.leader() is candidate, RECOVERY_S, "no switchover")

    def kill_etcd_leader(self) -> None:
        """SIGKILL the leader of etcd and start it after a while."""
        leader = self.database.etcd_leader()
        leader.kill_etcd()
        time.sleep(CALM_S)
        self.database.etcd_leader()
        leader.start_etcd()

    def kill_standby(self) -> None:
        """SIGKILL the PostgreSQL of the synchronous standby."""
        self.database.synchronous_standby().kill_postgres()
        self.database.await_unhealthy()

    def kill_instance(self) -> None:
        """SIGKILL an instance of the service and start it after a while."""
        instance = self._random.choice(self.instances)
        instance.kill()
        time.sleep(CALM_S)
        instance.start()


def summarize(cluster: Cluster, clients: Clients) -> Lines:
    """Return the lines of the tally."""
    gaps = cluster.gaps.items()
    answers = [each.answer for each in clients.received]
    lines = tally(cluster.database.execute, answers, Counter({fault: len(times) for fault, times in gaps}))
    return [
        *lines,
        ("users whose client gave up", clients.undecided),
        ("users created by the first request", sum(wait < ANSWERED_WITHIN_S for wait in clients.waits)),
        ("longest time until a client had its user", f"{max(clients.waits, default=0):.2f} s"),
        *(
            (f"  longest time without a new user: {fault}", f"{_longest(clients.received, times):.1f} s")
            for fault, times in sorted(gaps)
        ),
        *((f"results pages: {response}", count) for response, count in sorted(cluster.reader.responses.items())),
        ("slowest results page", f"{cluster.reader.slowest_s:.2f} s"),
    ]


def _longest(received: Sequence[Received], times: Sequence[tuple[float, float]]) -> float:
    return max(longest_gap(received, began, healed) for began, healed in times)


def parse_options() -> argparse.Namespace:
    """Parse the command line; exit after --help or an invalid option."""
    parser = argparse.ArgumentParser(prog="./run cluster", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="repeat the order of faults of an earlier run"
    )
    return parser.parse_args()


def main() -> None:
    """Run, print the tally, and exit with 1 if a promise was broken."""
    options = parse_options()
    print(f"cluster for {options.minutes:g} minutes, seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="useradd-cluster-"))
    folder.chmod(0o755)
    cluster = Cluster(folder, options.seed)
    try:
        cluster.start()
        clients = cluster.inject_faults(options.minutes)
        print(table(summarize(cluster, clients)), flush=True)
        for instance in cluster.instances:
            answers: list[Answer] = [each.answer for each in clients.received if each.service is instance]
            check_invariants(cluster.database, instance, answers, allowed_errors=EXPLAINED, drain_s=RECOVERY_S)
        late = [each for each in clients.received if each.answer.status and each.answer.seconds > ANSWERED_WITHIN_S]
        if late or clients.undecided:
            sys.exit(
                f"{len(late)} responses took longer than {ANSWERED_WITHIN_S} s, {clients.undecided} clients gave up"
            )
        cluster.database.close()
        shutil.rmtree(folder)  # kept after a failure, for its logs
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
