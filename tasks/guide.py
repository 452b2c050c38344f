"""Finds the commands in docs/deployment.md and runs them as an administrator would."""

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
"""Settings for a single client that sends more requests than the default limits allow."""


def find_block(containing: str, replacements: Mapping[str, str] | None = None) -> str:
    """Return the only block of shell commands that contains a text.

    `replacements` maps placeholders of the document to values. Raises LookupError if the text is not in exactly one
    block, or if the block lacks a placeholder.
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


def find_packages() -> list[str]:
    """Return the Debian packages that the document installs first.

    Raises LookupError if there are none.
    """
    match = re.search(r"`apt install ([^`]+)`", DOCUMENT.read_text())
    if match is None:
        raise LookupError(f"{DOCUMENT.name} does not install packages")
    return match[1].split()


def run_commands(commands: str, answers: str = "", prefix: Sequence[str] = (), directory: Path | None = None) -> str:
    """Run commands in a shell with `answers` as input; return the output.

    `prefix` is a command that starts the shell, such as `docker exec`. If a command fails, exits with the output.
    """
    shell = [*prefix, "bash", "-eu", "-o", "pipefail", "-c", commands]
    done = subprocess.run(shell, cwd=directory, input=answers, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"run: these commands failed:\n{commands}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
