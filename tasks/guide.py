"""The commands of docs/deployment.md, to be run as an administrator would run them."""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from config import ROOT

DOCUMENT = ROOT / "docs" / "deployment.md"

ADMINISTRATOR = "boss\nboss@example.org\n"
"""Answers to the questions of `flask users create-admin`."""

SETTINGS = "RATELIMIT_PER_CLIENT=100000\nRATELIMIT_GLOBAL=100000\n"
"""For one client that sends more than the default limits allow."""


def block(containing: str, replacements: Mapping[str, str] | None = None) -> str:
    """Return the only block of shell commands that contains a text.

    `replacements` are for what the document leaves to its reader. Raises LookupError if the text is not in exactly one
    block, or if what is to be replaced is not in the block.
    """
    found = [text for text in re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if containing in text]
    if len(found) != 1:
        raise LookupError(f"{len(found)} blocks of {DOCUMENT.name} contain {containing!r}")
    commands: str = found[0]
    for old, new in (replacements or {}).items():
        if old not in commands:
            raise LookupError(f"the block with {containing!r} does not contain {old!r}")
        commands = commands.replace(old, new)
    return commands


def packages() -> list[str]:
    """Return the Debian packages that the document installs first."""
    match = re.search(r"`apt install ([^`]+)`", DOCUMENT.read_text())
    if match is None:
        raise LookupError(f"{DOCUMENT.name} does not install packages")
    return match[1].split()


def run(commands: str, answers: str = "", prefix: Sequence[str] = (), directory: Path | None = None) -> str:
    """Run commands, answer their questions, and return their output.

    The shell is started by `prefix`. Exits with everything they wrote if one fails.
    """
    shell = [*prefix, "bash", "-eu", "-o", "pipefail", "-c", commands]
    done = subprocess.run(shell, cwd=directory, input=answers, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"run: these commands failed:\n{commands}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
