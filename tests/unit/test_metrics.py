"""Metrics in memory that the processes share."""

import os
import threading

import pytest

from project.metrics import FRESH_S, Metrics


class Slow(float):
    """A number that yields to other threads while it is added."""

    def __radd__(self, other: float) -> float:
        os.sched_yield()
        return other + float(self)


def test_concurrent_increments_of_a_counter_are_not_lost() -> None:
    metrics = Metrics(1)
    counter = metrics.register_counter("things_total", "Things")

    def count() -> None:
        for _ in range(1_000):
            counter.add(Slow(1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert metrics.value("things_total") == 4_000


def test_a_process_reports_the_sum_of_all_processes_and_a_replacement_continues_its_counters() -> None:
    metrics = Metrics(2)
    counter = metrics.register_counter("things_total", "Things")
    metrics.register_gauge("mood", "Mood", lambda: metrics.row and 3)
    metrics.attach(0)

    for exit_status in (0, 1):  # the second one replaces the first
        pid = os.fork()
        if not pid:
            metrics.attach(1)
            counter.add(5)
            os._exit(exit_status)
        os.waitpid(pid, 0)
    counter.add()

    assert metrics.value("things_total") == 11
    assert metrics.value("mood") == 3
    assert (metrics.running_workers, metrics.replaced_workers) == (2, 1)


def test_gauges_of_a_dead_process_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics(1)
    counter = metrics.register_counter("things_total", "Things")
    metrics.register_gauge("mood", "Mood", lambda: 3)
    metrics.attach(0)
    counter.add()

    monkeypatch.setattr("project.metrics.FRESH_S", -FRESH_S)

    assert (metrics.value("things_total"), metrics.value("mood"), metrics.running_workers) == (1, 0, 0)


def test_a_counter_can_follow_a_value_that_is_read() -> None:
    metrics, lost = Metrics(1), 2
    metrics.register_counter("lost_total", "Lost", read=lambda: lost)

    metrics.update()
    lost = 5
    metrics.update()
    metrics.update()

    assert metrics.value("lost_total") == 5


def test_histogram_buckets_include_their_upper_bound() -> None:
    metrics = Metrics(1)
    histogram = metrics.register_histogram("time_seconds", "Time", {"kind": "short"})

    for seconds in (0.001, 0.3, 0.4, 9):
        histogram.observe(seconds)

    lines = metrics.text().splitlines()
    assert lines[:2] == ["# HELP time_seconds Time", "# TYPE time_seconds histogram"]
    assert lines[2] == 'time_seconds_bucket{kind="short",le="0.001"} 1'
    assert 'time_seconds_bucket{kind="short",le="0.25"} 1' in lines
    assert 'time_seconds_bucket{kind="short",le="0.5"} 3' in lines
    assert lines[-3:] == [
        'time_seconds_bucket{kind="short",le="+Inf"} 4',
        'time_seconds_sum{kind="short"} 9.701',
        'time_seconds_count{kind="short"} 4',
    ]


def test_too_many_series_are_an_error_and_do_not_overwrite_another_process() -> None:
    metrics = Metrics(2)

    def fill() -> None:
        for number in range(3000):
            metrics.register_counter("things_total", "Things", {"number": str(number)})

    with pytest.raises(ValueError, match="too many series"):
        fill()
