"""What processes use of the machine: time of its cores, and memory."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

SAMPLE_S = 0.01
MEGABYTE = 1e6


def cores() -> int:
    """Return how many cores there are for us."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_s(root: psutil.Process) -> tuple[float, float]:
    """Return the seconds of a core that a process and all below it have used, those included that have ended.

    The first is what they took in all, the second what the kernel took of that.
    """
    seconds, kernel = 0.0, 0.0
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            kernel += times.system + times.children_system
            seconds += times.user + times.children_user + times.system + times.children_system
    return seconds, kernel


def switches(root: psutil.Process) -> int:
    """Return how often a thread of a process or of one below it has left its core, whether it waited or had to."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.Error):  # it has ended, or the system tells nobody
            for thread in process.threads():
                total += sum(psutil.Process(thread.id).num_ctx_switches())
    return total


def memory_mb(process: psutil.Process) -> float:
    """Return the resident memory; what workers share with their supervisor counts for each."""
    return float(process.memory_info().rss) / MEGABYTE


@dataclass
class Peak:
    """The most memory that a process was seen with."""

    mb: float = 0.0


@contextmanager
def peak_of(process: psutil.Process) -> Iterator[Peak]:
    """Look at the memory of a process every 10 ms while the block runs."""
    peak, over = Peak(), threading.Event()

    def look() -> None:
        while not over.wait(SAMPLE_S):
            peak.mb = max(peak.mb, memory_mb(process))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield peak
    finally:
        over.set()
        looking.join()
        peak.mb = max(peak.mb, memory_mb(process))
