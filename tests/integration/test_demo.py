"""./run demo: sample data that nobody else's settings reach and that leave nothing behind."""

import json
import os
import pty
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import TextIO

import pytest

from tests.chaos.load import Client
from tests.chaos.processes import HOST, eventually, free_port, started
from tests.conftest import ROOT


@pytest.mark.slow
def test_the_demo_shows_its_own_data_and_removes_them_at_the_end(tmp_path: Path) -> None:
    """Ctrl-C reaches the demo and the service, as on a terminal."""
    port = free_port()
    settings = {"TMPDIR": str(tmp_path), "PORT": str(port), "WORKERS": "1", "LANG": "C", "HOST": HOST}
    ours, theirs = pty.openpty()
    with (
        started(
            [sys.executable, "-m", "tasks", "demo"],
            env={"PATH": os.environ["PATH"], "DATABASE_URL": "postgresql://nobody@192.0.2.1/mine", **settings},
            cwd=ROOT,
            stdout=theirs,
            stderr=theirs,
        ) as process,
        os.fdopen(ours, encoding="utf-8", errors="replace") as terminal,
    ):
        os.close(theirs)
        greeting = "".join(takewhile(lambda line: "curl" not in line, _lines(terminal)))
        credentials = re.search(r"Log in as (\S+) with the password (\S+)", greeting)
        assert credentials, greeting
        client = Client(SimpleNamespace(host=HOST, port=port))
        eventually(lambda: client.log_in(*credentials.groups()), 60, "the login fails")
        totals = json.loads(client.get("/api/v1/stats/")[1])
        client.close()
        os.killpg(process.pid, signal.SIGINT)
        output = "".join(_lines(terminal))
        process.wait(60)

    assert "useradd is ready." in greeting
    assert totals["created"] > 5000
    assert totals["rejected"] > 100
    assert totals["failed"] > 5
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert list(tmp_path.iterdir()) == []


def _lines(terminal: TextIO) -> Iterator[str]:
    with suppress(OSError):  # EIO: nobody has the other end open any more
        for line in terminal:  # noqa: UP028 - `yield from` would close the terminal with this generator
            yield line
