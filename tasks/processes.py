"""Runs other programs: tools of the virtual environment and of the system."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

TOOLS = Path(sys.executable).parent
"""Directory of pytest, ruff and other tools. Not resolved: Python is a symbolic link in a virtual environment."""
EXIT_ON_INTERRUPT = 130  # as shells report SIGINT


def log(message: str) -> None:
    """Print a message to standard error, unbuffered: it precedes the output of later programs."""
    print(message, file=sys.stderr, flush=True)


def succeeds(command: Sequence[str | Path]) -> bool:
    """Run a command silently and return whether it exists and exits with 0."""
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def succeeds_or_prints(command: Sequence[str | Path]) -> bool:
    """Run a command and return whether it exits with 0; otherwise print the output."""
    try:
        process = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except OSError as error:
        log(str(error))
        return False
    if process.returncode:
        log(process.stdout)
    return process.returncode == 0


def tool_exit_code(tool: str, *arguments: str, env: Mapping[str, str] | None = None, note: str = "") -> int:
    """Print and run a command of .venv/bin; return the exit code.

    If a signal killed the tool, the code is 128 plus the number of the signal.
    """
    shown = " ".join(f'"{argument}"' if " " in argument else argument for argument in (tool, *arguments))
    log(f"== {shown}" + (f"  ({note})" if note else ""))
    code = subprocess.run([TOOLS / tool, *arguments], env=env, check=False).returncode
    return code if code >= 0 else 128 - code


def run_tool(tool: str, *arguments: str, env: Mapping[str, str] | None = None, note: str = "") -> None:
    """Run a command of .venv/bin; if it fails, exit with its code."""
    if code := tool_exit_code(tool, *arguments, env=env, note=note):
        sys.exit(code)
