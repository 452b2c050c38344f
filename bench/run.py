"""A run: its options, its PostgreSQL and its results."""

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from bench import load
from bench.load import Load
from bench.machine import count_context_switches, count_cores, cpu_seconds
from bench.references import postgres
from bench.references.postgres import Pgbench
from bench.servers import Databases, Server, run_server
from bench.targets import Quantity

CLIENTS = 16
FEW_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class CpuUsage:
    """CPU seconds used during a load, by process."""

    requests: int
    elapsed_s: float
    generator_s: float
    server_s: float
    postgres_s: float
    kernel_s: float = 0
    """Kernel part of `server_s`."""
    switches: float = 0
    """Context switches of the server's threads."""

    @property
    def cores(self) -> float:
        """Mean number of busy cores."""
        return (self.generator_s + self.server_s + self.postgres_s) / self.elapsed_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of a run: its length and the size of its tables."""

    rounds: int
    seconds: float
    """Length of each load in seconds."""
    rows: int
    """Number of attempts in the largest table."""


@dataclass(slots=True)
class Results:
    """Results of a run. Lists have a value for each measurement, usually one a round."""

    options: Options
    postgres: str
    """Version of PostgreSQL."""
    cores: int = field(default_factory=count_cores)
    values: dict[Quantity, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu_usage: dict[Quantity, list[CpuUsage]] = field(default_factory=lambda: defaultdict(list))
    p99_ms: dict[Quantity, list[float]] = field(default_factory=lambda: defaultdict(list))
    """99th percentile of response times."""
    pages_ms: dict[str, dict[int, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    """Response times by address and number of attempts."""


class Run:
    """The environment of all measurements: PostgreSQL, servers, load generators and results."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.databases = Databases()
        self.results = Results(options=options, postgres=self.databases.version)
        self._next, self._last = 0, 10_000_000
        self._pgbench_runs = 0

    def record(self, quantity: Quantity, value: float) -> None:
        """Record the value of a quantity in this round."""
        self.results.values[quantity].append(value)

    def take_turns(self, title: str, *measures: Callable[[], object], rounds: int | None = None) -> None:
        """Run all measures once a round in rotated order, so that disturbances affect all of them."""
        rounds = rounds or self.options.rounds
        for number in range(rounds):
            print_progress(f"{title}, round {number + 1} of {rounds}")
            for index in range(len(measures)):
                measures[(index + number) % len(measures)]()

    def serve(self, program: str, url: str, **settings: str) -> AbstractContextManager[Server]:
        """Run a Python module as a server that uses a database."""
        return run_server([sys.executable, "-m", program], self.databases.environment(url, **settings))

    def measure_load(
        self, quantity: Quantity, server: Server, request: bytes, *, clients: int = CLIENTS, expected: int = 201
    ) -> Load:
        """Measure and record a server's response rate, response times and CPU usage under load."""
        seconds = self.options.seconds
        with self._measure_cpu(server) as used:
            found = load.measure(
                server.port, request, clients=clients, seconds=seconds, first=self._next, expected=expected
            )
        self._next += found.requests + clients
        if found.unexpected:
            print_progress(f"{quantity}: {found.unexpected} of {found.requests} responses were not {expected}")
        self.record(quantity, found.rate)
        self.results.p99_ms[quantity].append(found.p99_ms)
        self.results.cpu_usage[quantity].append(CpuUsage(found.requests, found.elapsed_s, found.cpu_s, *used))
        return found

    def new_bodies(self, number: int) -> list[bytes]:
        """Return `number` lines with request bodies of users that measure_load() does not create."""
        body = load.useradd_request().partition(b"\r\n\r\n")[2]
        self._last -= number
        return [body.replace(load.NUMBER, b"%07d" % (self._last + index)) + b"\n" for index in range(number)]

    def measure_pgbench(self, quantity: Quantity, url: str, script: str) -> Pgbench:
        """Measure and record PostgreSQL's transaction rate with CLIENTS connections."""
        path = self.databases.home / "script.sql"
        path.write_text(script)
        self._pgbench_runs += 1
        began, before = time.perf_counter(), _children_cpu_s()
        with self._measure_cpu(None) as used:
            found = postgres.pgbench(url, path, clients=CLIENTS, seconds=self.options.seconds, first=self._pgbench_runs)
        elapsed = time.perf_counter() - began
        self.record(quantity, found.rate)
        self.results.cpu_usage[quantity].append(
            CpuUsage(found.transactions, elapsed, _children_cpu_s() - before, *used)
        )
        return found

    @contextmanager
    def _measure_cpu(self, server: Server | None) -> Iterator[list[float]]:
        """Yield a list that contains the CPU usage of the block after its end.

        The values are server_s, postgres_s, kernel_s and switches of CpuUsage; without a server, 0 and postgres_s.
        """
        before = self._used(server)
        used: list[float] = []
        yield used
        used += [end - start for end, start in zip(self._used(server), before, strict=True)]

    def _used(self, server: Server | None) -> list[float]:
        postgres_s, _ = cpu_seconds(self.databases.process)
        if server is None:
            return [0, postgres_s]
        server_s, kernel_s = cpu_seconds(server.process)
        return [server_s, postgres_s, kernel_s, count_context_switches(server.process)]


def print_progress(message: str) -> None:
    """Print a message about the progress to stderr."""
    print(f"== {message}", file=sys.stderr, flush=True)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
