"""The start of `./run` when everything is installed and its own PostgreSQL has been made before; a worker at rest."""

import time

from bench.machine import memory_mb
from bench.run import Run
from bench.servers import ROOT, served
from bench.targets import Quantity

COMMAND = [str(ROOT / "run")]
REST_S = 1


def measure(run: Run) -> None:
    """Start it once for all that is made only once, then note the others."""
    environment = run.databases.environment("")
    with served(COMMAND, environment):
        pass

    def start() -> None:
        with served(COMMAND, environment) as server:
            time.sleep(REST_S)
            run.note(Quantity.START, server.started_s)
            run.note(Quantity.MEMORY_IDLE, max(memory_mb(worker) for worker in server.workers()))

    run.take_turns("starting", start)
