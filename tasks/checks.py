"""The tasks `./run test`, `./run check` and `./run fix`, which run linters and tests."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks import system_packages
from tasks.processes import log, run_tool, tool_exit_code
from tasks.system_packages import REQUIREMENTS

PYTHON_FILES = (".", "run")  # ruff does not find `run` itself, because it has no suffix
EXCLUSIVE_MARKS = ("chaos", "deploy")  # of tests that wait for clocks or kill processes and therefore run apart
FAST_FOLDERS = ("tests/unit", "tests/integration", "tests/functional", "tests/conventions", "tests/readers")
"""Folders that --fast collects. Tests in other folders are skipped, and importing them would take seconds."""
SLOW_MARKS = ("chaos", "slow")  # of tests that --fast skips, besides the marks of REQUIREMENTS
PASSED_VARIABLES = (
    "PATH",
    "HOME",
    "TMPDIR",
    "CI",
    "LANG",
    "LC_",
    "TERM",
    "COLUMNS",
    "NO_COLOR",
    "PYTEST_",
    "HYPOTHESIS_",
)
"""Prefixes of the environment variables that are passed to tests. No setting of the service has such a prefix."""
# All tests of a file run in one process, because some tests read what earlier ones have written. A process that a
# hanging test has ended is not replaced, because the new process would repeat the test.
PARALLEL_OPTIONS = ("--dist=loadfile", "--max-worker-restart=0")
ON_ALL_CORES = ("--numprocesses=auto", *PARALLEL_OPTIONS)
ON_MORE_PROCESSES = (f"--numprocesses={(os.cpu_count() or 1) + 1}", *PARALLEL_OPTIONS)
"""Options of pytest for tests that wait rather than compute: more processes than cores."""
SAME_ON_EVERY_POSTGRES = (
    "tests/integration/test_bench.py",
    "tests/integration/test_rate_limits.py",
    "tests/integration/test_server.py",
    "tests/integration/test_start.py",
    "tests/functional/test_compression.py",
    "tests/functional/test_cors.py",
    "tests/functional/test_deploy_monitoring.py",
    "tests/functional/test_fuzz.py",
    "tests/functional/test_headers.py",
    "tests/functional/test_negotiation.py",
    "tests/functional/test_openapi.py",
    "tests/functional/test_proxies.py",
    "tests/functional/test_query_parameters.py",
    "tests/functional/test_server_refusals.py",
    "tests/functional/test_tracing.py",
)
"""Tests of HTTP, processes and other servers: they execute no SQL, or only SQL that other tests execute, too."""
USUAL_DURATION = "about 14 minutes on 2 cores, less with more; ./run test --fast takes under a minute"


def test(arguments: Sequence[str]) -> None:
    """Run the linters and all tests; if there are options of pytest, run only pytest.

    Installs missing programs before, see system_packages.provide(). With `--fast`, installs nothing and skips slow
    tests. Exits if a linter or test fails.
    """
    is_fast = "--fast" in arguments
    pytest_options = [argument for argument in arguments if argument != "--fast"]
    environment = filtered_environment(os.environ)
    if is_fast:
        skipped_marks = [*(requirement.mark for requirement in REQUIREMENTS), *SLOW_MARKS]
        not_tested = []
    else:
        if not pytest_options:
            announce_run()
        not_tested = system_packages.provide(REQUIREMENTS)
        skipped_marks = [requirement.mark for requirement in not_tested]
        if "browser" not in skipped_marks:
            environment["TEST_CHROMIUM"] = str(system_packages.find_chromium())

    if pytest_options:
        run_tool("pytest", *without_marks(skipped_marks), *pytest_options, env=environment)
    else:
        lint(environment)
        if is_fast:
            run_tool(
                "pytest",
                "--hypothesis-profile=fast",
                *FAST_FOLDERS,
                *without_marks(skipped_marks),
                *ON_ALL_CORES,
                env=environment,
            )
        else:
            run_all_tests(skipped_marks, environment)
    for requirement in not_tested:
        log(system_packages.not_tested_message(requirement))


def check(arguments: Sequence[str]) -> None:
    """Run the linters only."""
    if arguments:
        sys.exit("run: check takes no options")
    lint(filtered_environment(os.environ))


def fix(arguments: Sequence[str]) -> None:
    """Apply the fixes of ruff, then format, because fixed code may be unformatted."""
    if arguments:
        sys.exit("run: fix takes no options")
    unfixed = tool_exit_code("ruff", "check", "--fix", *PYTHON_FILES)
    run_tool("ruff", "format", *PYTHON_FILES)
    sys.exit(unfixed)


def announce_run() -> None:
    """Print the usual duration of `./run test` and whether it includes a second PostgreSQL."""
    second = find_system_postgres()
    log(f"== ./run test: {USUAL_DURATION}")
    log(
        f"== Tests are repeated on the PostgreSQL in {second}"
        if second
        else "== No PostgreSQL in /usr/lib/postgresql: tests are not repeated on a second one"
    )


def lint(environment: Mapping[str, str]) -> None:
    """Check format, lint rules, types and import contracts; exit at the first failure."""
    run_tool("ruff", "format", "--check", *PYTHON_FILES, env=environment)
    run_tool("ruff", "check", *PYTHON_FILES, env=environment)
    run_tool("mypy", env=environment)
    run_tool("lint-imports", "--no-logo", env=environment)


def run_all_tests(skipped_marks: Sequence[str], environment: dict[str, str]) -> None:
    """Run tests on all cores with coverage, then tests that wait for clocks and kill processes.

    If there is a second PostgreSQL, integration and functional tests of SQL run again on it.
    """
    exclusive = [mark for mark in EXCLUSIVE_MARKS if mark not in skipped_marks]
    selection = without_marks([*skipped_marks, *exclusive])
    run_tool("pytest", *selection, *ON_ALL_CORES, "--cov", "--cov-report=term", env=environment)
    run_tool("pytest", "-m", " or ".join(exclusive), *ON_MORE_PROCESSES, env=environment)
    if system_postgres := find_system_postgres():
        environment = environment | {"TEST_POSTGRES_BIN": str(system_postgres)}
        selection = [
            "tests/integration",
            "tests/functional",
            *(f"--ignore={path}" for path in SAME_ON_EVERY_POSTGRES),
            *without_marks([requirement.mark for requirement in REQUIREMENTS]),
        ]
        run_tool("pytest", *selection, *ON_ALL_CORES, env=environment, note=f"again, on {system_postgres}")


def without_marks(marks: Sequence[str]) -> list[str]:
    """Return the pytest options that skip tests with any of these marks."""
    return ["-m", " and ".join(f"not {mark}" for mark in marks)] if marks else []


def filtered_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables for tests, without settings of the service."""
    return {name: value for name, value in environment.items() if name.startswith(PASSED_VARIABLES)}


def find_system_postgres() -> Path | None:
    """Return the program directory of the newest PostgreSQL from Debian, or None."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres") if path.parts[4].isdigit()]
    return max(found, key=lambda path: int(path.parts[4]), default=None)
