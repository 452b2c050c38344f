"""Duration of a warm start of `./run`, and memory of an idle worker.

A start is warm if all packages are installed and PostgreSQL is initialized.
"""

import time

from bench.machine import memory_mb
from bench.run import Run
from bench.servers import ROOT, run_server
from bench.targets import Quantity

COMMAND = [str(ROOT / "run")]
IDLE_S = 1


def measure(run: Run) -> None:
    """Start the service once to initialize it, then record the following starts."""
    environment = run.databases.environment("")
    with run_server(COMMAND, environment):
        pass

    def start() -> None:
        with run_server(COMMAND, environment) as server:
            time.sleep(IDLE_S)
            run.record(Quantity.START, server.started_s)
            run.record(Quantity.MEMORY_IDLE, max(memory_mb(worker) for worker in server.workers()))

    run.take_turns("starting", start)
