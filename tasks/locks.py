"""The tasks `./run lock`, `./run audit` and `./run sbom` for the pinned packages."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tasks.processes import TOOLS, log

SERVICE = "requirements.txt"
DEVELOPMENT = "requirements-dev.txt"
TRACING = "requirements-otel.txt"
JUDGES = "requirements-judges.txt"
LOCKS = (
    ("requirements.in", SERVICE, ()),
    ("requirements-dev.in", DEVELOPMENT, ("-c", SERVICE)),
    ("requirements-otel.in", TRACING, ("-c", DEVELOPMENT)),
    ("requirements-judges.in", JUDGES, ("-c", DEVELOPMENT)),
)
"""Source and name of each lock file, and options of uv for the same versions as in another lock file."""


def lock(arguments: Sequence[str]) -> None:
    """Pin the packages with uv and npm: for all platforms, with hashes.

    The addresses of indexes are not written to the lock files.
    """
    base_python = getattr(sys, "_base_executable", sys.executable)
    with tempfile.TemporaryDirectory() as directory:
        venv = Path(directory) / "venv"
        subprocess.run([base_python, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "pip", "install", "--quiet", "uv"], check=True)
        options = ["--quiet", "--universal", "--python-version=3.11", "--generate-hashes"]
        options += ["--no-emit-index-url", "--no-annotate", "--no-header", *arguments]
        for source, lock_file, constraints in LOCKS:
            log(f"== pinning {source} in {lock_file}")
            compile_lock = [venv / "bin" / "uv", "pip", "compile", *options, source, "-o", lock_file, *constraints]
            subprocess.run(compile_lock, check=True)
        log("== pinning tests/judges/package.json in tests/judges/package-lock.json")
        subprocess.run([venv / "bin" / "pip", "install", "--quiet", "--requirement", JUDGES], check=True)
        upgrade = ["--upgrade"] if "--upgrade" in arguments else []
        subprocess.run([venv / "bin" / "python", "-m", "tasks.judges", "lock", *upgrade], check=True)


def audit(arguments: Sequence[str]) -> None:
    """Look up known vulnerabilities of the packages of the service."""
    options = ["--requirement", SERVICE, "--require-hashes", "--disable-pip"]
    subprocess.run([TOOLS / "pip-audit", *options, *arguments], check=True)


def sbom(arguments: Sequence[str]) -> None:
    """Write the software bill of materials in CycloneDX, by default to sbom.json."""
    options = ["requirements", "--output-reproducible", "--output-file", *(arguments or ["sbom.json"])]
    subprocess.run([TOOLS / "cyclonedx-py", *options, SERVICE], check=True)
