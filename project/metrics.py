"""What the service counts of itself, in memory that all its processes share: whichever is asked can tell the whole.

Each process writes a row of its own, so that none waits for another; a replacement goes on with the row of the one
that died, so that no count ever falls (docs/adr/0021).
"""

import mmap
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Read = Callable[[], float]
Labels = dict[str, str]

LIMITS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 3.6)
"""Upper bounds of the durations that are told apart; the last is what every answer keeps (promise 1)."""
FRESH_S = 30
"""Seconds after which a process that has not noted how it is counts as gone or stuck."""
_CELLS = 2048
"""Room of a row. Memory that nobody touches costs nothing."""
_BEAT, _STARTS = 0, 1


@dataclass(slots=True)
class _Family:
    """A name, and what is kept under it."""

    name: str
    kind: str
    meaning: str
    fold: Callable[[Iterator[float]], float] = sum
    series: list[tuple[Labels, int]] = field(default_factory=list)
    """Labels, and the cell where the figure stands."""


class Counter:
    """A number that only grows."""

    __slots__ = ("_at", "_metrics")

    def __init__(self, metrics: "Metrics", at: int) -> None:
        self._metrics = metrics
        self._at = at

    def add(self, number: float = 1) -> None:
        """Count."""
        metrics = self._metrics
        with metrics.lock:
            metrics.cells[metrics.row + self._at] += number


class Histogram:
    """How often something took how long."""

    __slots__ = ("_at", "_metrics")

    def __init__(self, metrics: "Metrics", at: int) -> None:
        self._metrics = metrics
        self._at = at

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        metrics = self._metrics
        with metrics.lock:
            at = metrics.row + self._at
            metrics.cells[at] += seconds
            metrics.cells[at + 1 + bisect_left(LIMITS_S, seconds)] += 1


class Metrics:
    """The figures of `rows` processes. All names are given before the first process is forked."""

    def __init__(self, rows: int) -> None:
        self.cells = memoryview(mmap.mmap(-1, rows * _CELLS * 8)).cast("d")
        self.row = 0
        """Where the row of this process begins."""
        self.lock = threading.Lock()
        self._rows = rows
        self._used = 2
        self._families: dict[str, _Family] = {}
        self._reads: list[tuple[int, Read]] = []
        self._growing: list[tuple[Counter, Read]] = []
        self._seen: dict[Counter, float] = {}
        self._noting = threading.Lock()

    def counter(self, name: str, meaning: str, labels: Labels | None = None, read: Read | None = None) -> Counter:
        """Return a counter; with `read` it follows a number of this process that grows by itself."""
        counter = Counter(self, self._place(name, "counter", meaning, labels, 1))
        if read:
            self._growing.append((counter, read))
        return counter

    def histogram(self, name: str, meaning: str, labels: Labels | None = None) -> Histogram:
        """Return a histogram of durations."""
        return Histogram(self, self._place(name, "histogram", meaning, labels, len(LIMITS_S) + 2))

    def gauge(
        self,
        name: str,
        meaning: str,
        read: Read,
        labels: Labels | None = None,
        fold: Callable[[Iterator[float]], float] = sum,
    ) -> None:
        """Tell what `read` returns, which must wait for nothing; `fold` makes one figure of those of all processes."""
        self._reads.append((self._place(name, "gauge", meaning, labels, 1, fold), read))

    def begin(self, number: int) -> None:
        """Write to row `number` from now on, in a process that has just been forked."""
        self.row = number * _CELLS
        self.cells[self.row + _STARTS] += 1
        self.note()

    def note(self) -> None:
        """Write down how this process is at the moment."""
        with self._noting:
            for at, read in self._reads:
                self.cells[self.row + at] = read()
            for counter, read in self._growing:
                value = read()
                counter.add(value - self._seen.get(counter, 0))
                self._seen[counter] = value
            self.cells[self.row + _BEAT] = time.monotonic()

    @property
    def running(self) -> int:
        """How many processes have noted of late how they are."""
        return len(self._fresh())

    @property
    def replaced(self) -> int:
        """How many processes have died and were replaced."""
        return int(sum(max(0, self.cells[row + _STARTS] - 1) for row in self._all()))

    def value(self, name: str, **labels: str) -> float:
        """Return a figure of the whole service."""
        family = self._families[name]
        return self._fold(family, next(at for have, at in family.series if have == labels))

    def text(self) -> str:
        """Return all figures of the whole service as Prometheus reads them ("Exposition formats", 0.0.4)."""
        return "".join(f"{line}\n" for family in self._families.values() for line in self._lines(family))

    def _place(
        self,
        name: str,
        kind: str,
        meaning: str,
        labels: Labels | None,
        size: int,
        fold: Callable[[Iterator[float]], float] = sum,
    ) -> int:
        family = self._families.setdefault(name, _Family(name, kind, meaning, fold))
        at, self._used = self._used, self._used + size
        if self._used > _CELLS:
            raise ValueError("a row has no room for so many figures")
        family.series.append((labels or {}, at))
        return at

    def _all(self) -> range:
        return range(0, self._rows * _CELLS, _CELLS)

    def _fresh(self) -> list[int]:
        """Return the rows of processes that go on."""
        since = time.monotonic() - FRESH_S
        return [row for row in self._all() if self.cells[row + _BEAT] > since]

    def _fold(self, family: _Family, at: int) -> float:
        """Make one figure of those of all processes: what a dead one has counted counts, how it was does not."""
        rows = self._fresh() if family.kind == "gauge" else self._all()
        return family.fold(self.cells[row + at] for row in rows) if rows else 0

    def _lines(self, family: _Family) -> Iterator[str]:
        yield from head(family.name, family.kind, family.meaning)
        for labels, at in family.series:
            if family.kind == "histogram":
                yield from self._buckets(family, labels, at)
            else:
                yield line(family.name, labels, self._fold(family, at))

    def _buckets(self, family: _Family, labels: Labels, at: int) -> Iterator[str]:
        total = 0.0
        for place, limit in enumerate((*map(str, LIMITS_S), "+Inf"), at + 1):
            total += self._fold(family, place)
            yield line(f"{family.name}_bucket", labels | {"le": limit}, total)
        yield line(f"{family.name}_sum", labels, self._fold(family, at))
        yield line(f"{family.name}_count", labels, total)


def head(name: str, kind: str, meaning: str) -> Iterator[str]:
    """Return the lines that stand above the figures of a name."""
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"


def line(name: str, labels: Labels, value: float) -> str:
    """Return the line of one figure. Labels are words of our own: nothing in them needs escaping."""
    told = ",".join(f'{key}="{word}"' for key, word in labels.items())
    return f"{name}{{{told}}} {value:.15g}" if told else f"{name} {value:.15g}"
