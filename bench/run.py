"""One run: how long and how large it is, its PostgreSQL, and all that was noted in it."""

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from bench import load
from bench.load import Load
from bench.machine import cores, cpu_s, switches
from bench.references import postgres
from bench.references.postgres import Pgbench
from bench.servers import Databases, Server, served
from bench.targets import Quantity

CLIENTS = 16
FEW = 10_000


@dataclass(frozen=True, slots=True)
class Busy:
    """What a load cost, in seconds of a core."""

    requests: int
    elapsed_s: float
    generator_s: float
    server_s: float
    postgres_s: float
    kernel_s: float = 0
    """What of `server_s` the kernel took."""
    switches: float = 0
    """How often a thread of the server left its core."""

    @property
    def cores(self) -> float:
        """How many cores were at work in the mean."""
        return (self.generator_s + self.server_s + self.postgres_s) / self.elapsed_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long and how large a run is."""

    rounds: int
    seconds: float
    """Of each load."""
    rows: int
    """Attempts of the largest table."""


@dataclass(slots=True)
class Notes:
    """What a run found, by round."""

    options: Options
    postgres: str
    """Version of the server."""
    cores: int = field(default_factory=cores)
    values: dict[Quantity, list[float]] = field(default_factory=lambda: defaultdict(list))
    busy: dict[Quantity, list[Busy]] = field(default_factory=lambda: defaultdict(list))
    p99_ms: dict[Quantity, list[float]] = field(default_factory=lambda: defaultdict(list))
    """What 99 % of a load's answers took at the most."""
    pages_ms: dict[str, dict[int, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    """What an answer took, by its address and the number of attempts."""


class Run:
    """What all figures are measured with."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.databases = Databases()
        self.notes = Notes(options=options, postgres=self.databases.version)
        self._next = 0

    def note(self, quantity: Quantity, value: float) -> None:
        """Keep one value."""
        self.notes.values[quantity].append(value)

    def take_turns(self, title: str, *measures: Callable[[], object], rounds: int | None = None) -> None:
        """Measure everything once a round, each round beginning with another one: what the machine does hits all."""
        rounds = rounds or self.options.rounds
        for number in range(rounds):
            say(f"{title}, round {number + 1} of {rounds}")
            for index in range(len(measures)):
                measures[(index + number) % len(measures)]()

    def serve(self, program: str, url: str, **settings: str) -> AbstractContextManager[Server]:
        """Serve a module of Python on a database."""
        return served([sys.executable, "-m", program], self.databases.environment(url, **settings))

    def load(
        self, quantity: Quantity, server: Server, asked: bytes, *, clients: int = CLIENTS, expected: int = 201
    ) -> Load:
        """Note how many answers a second a server gives to its clients, and what of the machine that takes."""
        seconds = self.options.seconds
        with self._spent(server) as spent:
            found = load.measure(
                server.port, asked, clients=clients, seconds=seconds, first=self._next, expected=expected
            )
        self._next += found.requests + clients
        if found.others:
            say(f"{quantity}: {found.others} of {found.requests} answers were not {expected}")
        self.note(quantity, found.rate)
        self.notes.p99_ms[quantity].append(found.p99_ms)
        self.notes.busy[quantity].append(Busy(found.requests, found.elapsed_s, found.cpu_s, *spent))
        return found

    def pgbench(self, quantity: Quantity, url: str, script: str) -> Pgbench:
        """Note how many transactions a second PostgreSQL takes from CLIENTS connections."""
        path = self.databases.home / "script.sql"
        path.write_text(script)
        self._next += 1
        began, before = time.perf_counter(), _children_s()
        with self._spent(None) as spent:
            found = postgres.pgbench(url, path, clients=CLIENTS, seconds=self.options.seconds, first=self._next)
        elapsed = time.perf_counter() - began
        self.note(quantity, found.rate)
        self.notes.busy[quantity].append(Busy(found.transactions, elapsed, _children_s() - before, *spent))
        return found

    @contextmanager
    def _spent(self, server: Server | None) -> Iterator[list[float]]:
        """Give a list that holds, after the block, what the server and PostgreSQL used in it, as Busy has it."""
        before = self._used(server)
        spent: list[float] = []
        yield spent
        spent += [after - used for after, used in zip(self._used(server), before, strict=True)]

    def _used(self, server: Server | None) -> list[float]:
        postgres_s, _ = cpu_s(self.databases.process)
        if server is None:
            return [0, postgres_s]
        server_s, kernel_s = cpu_s(server.process)
        return [server_s, postgres_s, kernel_s, switches(server.process)]


def say(message: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"== {message}", file=sys.stderr, flush=True)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
