"""Run one developer task: `python -m tasks COMMAND ...` from the root of the repository.

Imports only the standard library: `lock` has to work if no lock file can be installed, and `psql` without the
packages for development.
"""

import os
import subprocess
import sys
from collections.abc import Callable

from tasks import checks, locks
from tasks.processes import EXIT_ON_INTERRUPT

FUNCTIONS: dict[str, Callable[[list[str]], None]] = {
    "test": checks.test,
    "check": checks.check,
    "fix": checks.fix,
    "lock": locks.lock,
    "audit": locks.audit,
    "sbom": locks.sbom,
}
MODULES = {
    "torture": "tests.chaos.torture",
    "fuzz": "tests.chaos.fuzz",
    "cluster": "tests.cluster",
    "containers": "tasks.containers",
    "units": "tasks.units",
    "versions": "tasks.versions",
    "bench": "bench",
    "demo": "tasks.demo",
    "psql": "tasks.psql",
}
"""Task -> module that is run as a program and parses its own options."""


def main() -> None:
    """Run the task named by the first argument."""
    command, *arguments = sys.argv[1:] or [""]
    if command in MODULES:
        os.execv(sys.executable, [sys.executable, "-m", MODULES[command], *arguments])
    elif command in FUNCTIONS:
        FUNCTIONS[command](arguments)
    else:
        sys.exit(f"tasks: there is no task {command!r}; ./run help lists all commands")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(EXIT_ON_INTERRUPT)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
