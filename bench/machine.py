"""CPU time, context switches and memory of processes."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

SAMPLE_S = 0.01
MEGABYTE = 1e6


def count_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_seconds(root: psutil.Process) -> tuple[float, float]:
    """Return total and kernel CPU seconds of a process and its descendants.

    Ended descendants are included.
    """
    seconds, kernel = 0.0, 0.0
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            kernel += times.system + times.children_system
            seconds += times.user + times.children_user + times.system + times.children_system
    return seconds, kernel


def count_context_switches(root: psutil.Process) -> int:
    """Return the voluntary and involuntary context switches of a process and its descendants."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.Error):  # it has ended, or the system denies access
            for thread in process.threads():
                total += sum(psutil.Process(thread.id).num_ctx_switches())
    return total


def memory_mb(process: psutil.Process) -> float:
    """Return the resident memory of a process in MB.

    Memory that workers share with their supervisor counts for each worker.
    """
    return float(process.memory_info().rss) / MEGABYTE


@dataclass
class Peak:
    """The peak of the sampled memory of a process, in MB."""

    mb: float = 0.0


@contextmanager
def track_peak_memory(process: psutil.Process) -> Iterator[Peak]:
    """Sample the memory of a process every 10 ms while the block runs."""
    peak, stopped = Peak(), threading.Event()

    def sample() -> None:
        while not stopped.wait(SAMPLE_S):
            peak.mb = max(peak.mb, memory_mb(process))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peak
    finally:
        stopped.set()
        sampler.join()
        peak.mb = max(peak.mb, memory_mb(process))
