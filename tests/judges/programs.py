"""Run the judges that tasks.judges installs."""

import os
import subprocess
from pathlib import Path

from tasks import judges

FOLDER = judges.FOLDER
MODULES = FOLDER / "node_modules"
NETWORK_OFF = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "CI": "true"}


def run_node(program: Path | str, *arguments: Path | str, cwd: Path = FOLDER) -> str:
    """Run a JavaScript program of npm or of this folder; return its output, or fail with it."""
    return run(judges.find_node(), MODULES / program if isinstance(program, str) else program, *arguments, cwd=cwd)


def run_java(jar: str, *arguments: Path | str) -> str:
    """Run a JAR of npm; return its output, or fail with it."""
    return run(judges.find_java(), "-jar", MODULES / jar, *arguments, cwd=FOLDER)


def run(program: Path | None, *arguments: Path | str, cwd: Path) -> str:
    """Run a program; return its output, or fail with it."""
    assert program is not None
    environment = os.environ | NETWORK_OFF | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    process = subprocess.run([program, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, f"{program.name} {arguments[0]}: {process.stdout}{process.stderr}"
    return process.stdout
