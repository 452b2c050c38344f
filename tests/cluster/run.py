"""`./run cluster --minutes N`: breaks a cluster of several hosts under load, counts what was lost, prints its tally.

One instance of the service reaches PostgreSQL by the names of all hosts, the other by way of HAProxy. Every fault is
healed before the next one: what two at a time do to three hosts is no secret.
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

from tests.chaos.invariants import check
from tests.chaos.load import Answer
from tests.chaos.processes import eventually
from tests.chaos.service import Service, migrate
from tests.chaos.tally import Lines, table, tally
from tests.cluster.clients import Clients, Heard, Reader, longest_gap
from tests.cluster.database import Database, DatabaseHost
from tests.cluster.network import Network

ANSWERED_WITHIN_S = 3.6
CLIENTS, PAUSE_S, READ_EVERY_S = 6, 0.05, 0.25
INSTANCES = {"app1": 21, "app2": 22}
CALM_S = 3.0
RECOVERY_S = 30.0
GIVEN_UP_S = 90.0
"""Within which a primary that vanished has a successor: Patroni's ttl, twice if etcd's leader vanished with it."""
EXPLAINED = ("worker died", "attempt not recorded")
"""ERROR lines that killing processes explains."""


class Cluster:
    """All hosts, the two instances, and what breaks them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a test that can be repeated
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
        """When each fault began and was healed."""

    def start(self) -> None:
        """Start PostgreSQL, then the instances: they share their secrets."""
        self.database.start()
        migrate(self.database.url_of_hosts + "?target_session_attrs=read-write")
        first, *others = self.instances
        first.start()
        for other in others:
            (other.data_dir / "data").mkdir(mode=0o700)
            for name in ("secret_key", "password_secret"):
                shutil.copy2(first.data_dir / "data" / name, other.data_dir / "data" / name)
            other.start()

    def break_things(self, minutes: float) -> Clients:
        """Break one thing after the other until the time is over; return what the clients were told."""
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
                    time.sleep(CALM_S)  # the gap before a fault is no fault
                    with self._noted(fault.__name__.replace("_", " ")):
                        fault()
                        self.database.await_whole()
                    if time.monotonic() >= end:
                        break
            self._await_recovery()
        return clients

    @contextmanager
    def _noted(self, fault: str) -> Iterator[None]:
        began = time.monotonic()
        print(f"{fault} ...", end=" ", flush=True)
        yield
        self.gaps[fault].append((began, time.monotonic()))
        print(f"healed after {time.monotonic() - began:.0f} s", flush=True)

    def _await_recovery(self) -> None:
        for one in self.instances:
            eventually(lambda one=one: one.get("/readyz") == 200, RECOVERY_S, "an instance does not recover")  # type: ignore[misc]

    def close(self) -> None:
        """End the instances; all else ends with the processes' own tree."""
        for one in self.instances:
            one.close()

    # --- Faults -------------------------------------------------------------------------------------------------

    def kill_primary(self) -> None:
        """SIGKILL the primary's PostgreSQL."""
        self.database.leader().kill_postgres()
        self.database.await_trouble()

    def cut_off_primary(self) -> None:
        """Pull the cable of the primary's host for a while."""
        primary = self.database.leader()
        primary.host.pull_cable()
        self._await_another(primary)
        primary.host.plug_in()

    def _await_another(self, primary: DatabaseHost) -> None:
        eventually(lambda: self.database.leader() is not primary, GIVEN_UP_S, "no other primary")
        time.sleep(CALM_S)

    def power_off_primary(self) -> None:
        """SIGKILL everything on the primary's host for a while."""
        primary = self.database.leader()
        primary.kill_all()
        self._await_another(primary)
        primary.start()

    def switch_over(self) -> None:
        """Hand the primary's part to the synchronous standby, as before an upgrade."""
        former, follower = self.database.leader(), self.database.synchronous_standby()
        former.patroni("switchover", {"leader": former.name, "candidate": follower.name})
        eventually(lambda: self.database.leader() is follower, RECOVERY_S, "no switchover")

    def kill_etcd_leader(self) -> None:
        """SIGKILL the leader of etcd for a while."""
        leader = self.database.etcd_leader()
        leader.kill_etcd()
        time.sleep(CALM_S)
        self.database.etcd_leader()
        leader.start_etcd()

    def kill_standby(self) -> None:
        """SIGKILL the PostgreSQL that every COMMIT waits for."""
        self.database.synchronous_standby().kill_postgres()
        self.database.await_trouble()

    def kill_instance(self) -> None:
        """SIGKILL an instance of the service, and start it after a while."""
        instance = self._random.choice(self.instances)
        instance.kill()
        time.sleep(CALM_S)
        instance.start()


def told(cluster: Cluster, clients: Clients) -> Lines:
    """Return what came of it."""
    gaps = cluster.gaps.items()
    answers = [one.answer for one in clients.heard]
    lines = tally(cluster.database.execute, answers, Counter({fault: len(times) for fault, times in gaps}))
    return [
        *lines,
        ("users whose client gave up", clients.undecided),
        ("users after one request", sum(wait < ANSWERED_WITHIN_S for wait in clients.waits)),
        ("longest until a client had its user", f"{max(clients.waits, default=0):.2f} s"),
        *(
            (f"  longest time without a new user: {fault}", f"{_longest(clients.heard, times):.1f} s")
            for fault, times in sorted(gaps)
        ),
        *((f"results pages answered {what}", count) for what, count in sorted(cluster.reader.told.items())),
        ("slowest results page", f"{cluster.reader.slowest_s:.2f} s"),
    ]


def _longest(heard: Sequence[Heard], times: Sequence[tuple[float, float]]) -> float:
    return max(longest_gap(heard, began, healed) for began, healed in times)


def main() -> None:
    """Run it, print the tally, and end with 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="./run cluster", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats the order of the faults")
    options = parser.parse_args()
    print(f"cluster for {options.minutes:g} minutes, seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="useradd-cluster-"))
    folder.chmod(0o755)
    cluster = Cluster(folder, options.seed)
    try:
        cluster.start()
        clients = cluster.break_things(options.minutes)
        print(table(told(cluster, clients)), flush=True)
        for one in cluster.instances:
            answers: list[Answer] = [each.answer for each in clients.heard if each.service is one]
            check(cluster.database, one, answers, allowed_errors=EXPLAINED, drain_s=RECOVERY_S)
        late = [one for one in clients.heard if one.answer.status and one.answer.seconds > ANSWERED_WITHIN_S]
        if late or clients.undecided:
            sys.exit(f"{len(late)} answers took longer than {ANSWERED_WITHIN_S} s, {clients.undecided} clients gave up")
        cluster.database.close()
        shutil.rmtree(folder)  # after a failure somebody wants to read the logs in it
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
