"""Measurements. Each function takes a run and records values of quantities in it."""

from collections.abc import Callable

from bench.measurements import creating, importing, logging_in, reading, starting
from bench.run import Run

ALL: dict[str, Callable[[Run], None]] = {
    "starting": starting.measure,
    "creating": creating.measure,
    "bulk": creating.measure_bulk,
    "importing": importing.measure,
    "logging-in": logging_in.measure,
    "reading": reading.measure,
}
WITHIN: dict[str, Callable[[Run], None]] = {"layers": creating.measure_layers}
"""Parts of the measurements in ALL that `--only` can select, too."""
