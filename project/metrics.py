"""Metrics in shared memory, so that any process can export the metrics of all processes.

Each process writes to its own row and does not wait for other processes. A new process continues the row of the process
that it replaces, so that no counter decreases (docs/adr/0021).
"""

import mmap
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

ReadValue = Callable[[], float]
"""Returns the current value of a series in this process."""
Labels = dict[str, str]
Combine = Callable[[Iterator[float]], float]
"""Combines the values of a series in all processes, for example with sum() or max()."""

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 3.6)
"""Upper bounds of the histogram buckets in seconds. The last bound is the promised maximum of the response time."""
FRESH_S = 30
"""Seconds since the last update of its row after which a process counts as dead or stuck."""
_ROW_CELLS = 2048
"""Number of 8-byte cells of a row. Unused cells take no memory: the kernel allocates pages on first use."""
_HEARTBEAT_CELL, _STARTS_CELL = 0, 1
"""Cells of a row with the time of its last update by time.monotonic(), and the number of processes that used it."""


@dataclass(slots=True)
class _Family:
    name: str
    kind: str
    description: str
    combine: Combine
    series: list[tuple[Labels, int]] = field(default_factory=list)
    """Labels of each series, and the index of its cell in a row."""


class _Series:
    __slots__ = ("_cell", "_metrics")

    def __init__(self, metrics: "Metrics", cell: int) -> None:
        self._metrics = metrics
        self._cell = cell


class Counter(_Series):
    """A Prometheus counter, which only increases."""

    __slots__ = ()

    def add(self, number: float = 1) -> None:
        metrics = self._metrics
        with metrics.lock:
            metrics.cells[metrics.row + self._cell] += number


class Histogram(_Series):
    """A Prometheus histogram of durations in seconds, with the buckets BUCKETS_S."""

    __slots__ = ()

    def observe(self, seconds: float) -> None:
        metrics = self._metrics
        with metrics.lock:
            cell = metrics.row + self._cell
            metrics.cells[cell] += seconds
            metrics.cells[cell + 1 + bisect_left(BUCKETS_S, seconds)] += 1


class Metrics:
    """The metrics of up to `rows` worker processes. Register all series before the first fork."""

    def __init__(self, rows: int) -> None:
        self.cells = memoryview(mmap.mmap(-1, rows * _ROW_CELLS * 8)).cast("d")
        self.row = 0
        """Index of the first cell of this process's row."""
        self.lock = threading.Lock()
        self._row_count = rows
        self._used_cells = 2
        self._families: dict[str, _Family] = {}
        self._gauges: list[tuple[int, ReadValue]] = []
        self._polled_counters: list[tuple[Counter, ReadValue]] = []
        self._last_values: dict[Counter, float] = {}
        self._update_lock = threading.Lock()

    def register_counter(
        self, name: str, description: str, labels: Labels | None = None, read: ReadValue | None = None
    ) -> Counter:
        """Register a counter. With `read`, update() adds the increase of the value that it returns."""
        counter = Counter(self, self._register(name, "counter", description, labels, 1))
        if read:
            self._polled_counters.append((counter, read))
        return counter

    def register_histogram(self, name: str, description: str, labels: Labels | None = None) -> Histogram:
        return Histogram(self, self._register(name, "histogram", description, labels, len(BUCKETS_S) + 2))

    def register_gauge(
        self, name: str, description: str, read: ReadValue, labels: Labels | None = None, combine: Combine = sum
    ) -> None:
        """Register a gauge. `read` returns the value of this process and must not block."""
        self._gauges.append((self._register(name, "gauge", description, labels, 1, combine), read))

    def attach(self, worker: int) -> None:
        """Make this process write to row `worker`. Call once in each forked process."""
        self.row = worker * _ROW_CELLS
        self.cells[self.row + _STARTS_CELL] += 1
        self.update()

    def update(self) -> None:
        """Write the values of gauges, and of counters with `read`, to the row of this process."""
        with self._update_lock:
            for cell, read in self._gauges:
                self.cells[self.row + cell] = read()
            for counter, read in self._polled_counters:
                value = read()
                counter.add(value - self._last_values.get(counter, 0))
                self._last_values[counter] = value
            self.cells[self.row + _HEARTBEAT_CELL] = time.monotonic()

    @property
    def running_workers(self) -> int:
        """Number of processes that have updated their row within FRESH_S."""
        return len(self._fresh_rows())

    @property
    def expected_workers(self) -> int:
        """Configured number of worker processes."""
        return self._row_count

    @property
    def replaced_workers(self) -> int:
        """Number of processes that died and were replaced."""
        return int(sum(max(0, self.cells[row + _STARTS_CELL] - 1) for row in self._all_rows()))

    def value(self, name: str, **labels: str) -> float:
        """Return the value of the series with these labels, combined over all processes.

        For a histogram, that is the sum of its durations in seconds.
        """
        family = self._families[name]
        return self._combine(family, next(cell for have, cell in family.series if have == labels))

    def text(self) -> str:
        """Return all metrics in the Prometheus text exposition format, 0.0.4."""
        return "".join(f"{line}\n" for family in self._families.values() for line in self._lines(family))

    def _register(
        self, name: str, kind: str, description: str, labels: Labels | None, size: int, combine: Combine = sum
    ) -> int:
        family = self._families.setdefault(name, _Family(name, kind, description, combine))
        cell, self._used_cells = self._used_cells, self._used_cells + size
        if self._used_cells > _ROW_CELLS:
            raise ValueError("too many series for a row")
        family.series.append((labels or {}, cell))
        return cell

    def _all_rows(self) -> range:
        return range(0, self._row_count * _ROW_CELLS, _ROW_CELLS)

    def _fresh_rows(self) -> list[int]:
        since = time.monotonic() - FRESH_S
        return [row for row in self._all_rows() if self.cells[row + _HEARTBEAT_CELL] > since]

    def _combine(self, family: _Family, cell: int) -> float:
        """Combine a series over all rows; a gauge only over rows that were updated within FRESH_S.

        Returns 0 if there are no such rows.
        """
        rows = self._fresh_rows() if family.kind == "gauge" else self._all_rows()
        return family.combine(self.cells[row + cell] for row in rows) if rows else 0

    def _lines(self, family: _Family) -> Iterator[str]:
        yield from header_lines(family.name, family.kind, family.description)
        for labels, cell in family.series:
            if family.kind == "histogram":
                yield from self._buckets(family, labels, cell)
            else:
                yield sample_line(family.name, labels, self._combine(family, cell))

    def _buckets(self, family: _Family, labels: Labels, cell: int) -> Iterator[str]:
        total = 0.0
        for bucket, limit in enumerate((*map(str, BUCKETS_S), "+Inf"), cell + 1):
            total += self._combine(family, bucket)
            yield sample_line(f"{family.name}_bucket", labels | {"le": limit}, total)
        yield sample_line(f"{family.name}_sum", labels, self._combine(family, cell))
        yield sample_line(f"{family.name}_count", labels, total)


def header_lines(name: str, kind: str, description: str) -> Iterator[str]:
    """Yield the lines HELP and TYPE of a metric; `kind` is `counter`, `gauge` or `histogram`."""
    yield f"# HELP {name} {description}"
    yield f"# TYPE {name} {kind}"


def sample_line(name: str, labels: Labels, value: float) -> str:
    """Return a sample in the text exposition format. Label values must not need escaping."""
    text = ",".join(f'{key}="{label}"' for key, label in labels.items())
    return f"{name}{{{text}}} {value:.15g}" if text else f"{name} {value:.15g}"
