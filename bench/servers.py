"""What is measured: PostgreSQL of the bench's own, the service, and the plain way to write it."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server
from typing import Any

import psycopg2

from project.embedded import ensure
from project.embedded.place import wheel_programs

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
START_S = 60


class Databases:
    """A server that lives as long as this process, and as many empty databases as one likes."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="useradd-bench-"))
        self._server = ensure(self._home / "postgres").rpartition("/")[0]
        self._admin = psycopg2.connect(f"{self._server}/postgres")
        self._admin.autocommit = True

    def create(self, name: str) -> str:
        """Return the address of a new database with the tables of the service."""
        self._admin.cursor().execute(f"drop database if exists {name} with (force)")
        self._admin.cursor().execute(f"create database {name}")
        url = f"{self._server}/{name}"
        command = [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade"]
        subprocess.run(command, cwd=ROOT, env=self.environment(url), check=True, capture_output=True)
        return url

    def environment(self, url: str, **settings: str) -> dict[str, str]:
        """Return the environment of a process that uses a database."""
        data = self._home / url.rpartition("/")[2]
        return {"PATH": os.environ["PATH"], "DATABASE_URL": url, "DATA_DIR": str(data), **settings}

    def pgbench(self, url: str, script: str, clients: int, seconds: float) -> tuple[float, float]:
        """Run a script over TCP; return transactions a second and the mean latency in milliseconds."""
        path = self._home / "script.sql"
        path.write_text(script)
        program = wheel_programs() / "pgbench"
        options = ["-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(round(seconds)), "-f", str(path)]
        said = subprocess.run([program, *options, url], check=True, capture_output=True, text=True).stdout
        found = {line.split("=")[0].strip(): line.split("=")[1].split()[0] for line in said.splitlines() if "=" in line}
        return float(found["tps"]), float(found["latency average"])

    def close(self) -> None:
        """Let go of the server and remove what it kept."""
        self._admin.close()
        shutil.rmtree(self._home, ignore_errors=True)


@contextmanager
def served(command: list[str], environment: dict[str, str]) -> Iterator[tuple[int, "subprocess.Popen[bytes]", float]]:
    """Serve on a free port; give the port, the process, and the seconds until the first answer."""
    with create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    started = time.perf_counter()
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, env=environment | {"PORT": str(port)}, **quiet) as process:
        try:
            _await_answer(f"http://{HOST}:{port}/livez")
            yield port, process, time.perf_counter() - started
        finally:
            process.terminate()


def _await_answer(address: str) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise TimeoutError(f"nobody answers at {address}")
