"""The processes of a run: its own PostgreSQL and the measured servers."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import create_server

import psutil

from bench.load import HOST
from bench.references.postgres import connect
from config import settings as describe_settings
from project.embedded import ensure_running
from project.embedded.locks import stop_using

ROOT = Path(__file__).parents[1]
START_TIMEOUT_S = 60
PAUSE_S = 0.005


@dataclass(frozen=True, slots=True)
class Server:
    """A running server that is measured."""

    port: int
    process: psutil.Process
    started_s: float
    """Seconds from the start of the server to its first response."""

    def workers(self) -> list[psutil.Process]:
        """Return the child processes, which serve, or the main process if it serves alone."""
        children: list[psutil.Process] = self.process.children()
        return children or [self.process]


class Databases:
    """A PostgreSQL that runs until close(), with any number of databases."""

    def __init__(self) -> None:
        (ROOT / "instance").mkdir(mode=0o700, exist_ok=True)  # on the disk of the service's own databases
        self.home = Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / "instance"))
        self._root = self.home / "postgres"
        self._server = ensure_running(self._root).rpartition("/")[0]
        self._admin = connect(f"{self._server}/postgres")
        with self._admin.cursor() as cursor:
            cursor.execute("select pg_backend_pid(), current_setting('server_version')")
            pid, self.version = cursor.fetchall()[0]
        self.process = psutil.Process(psutil.Process(pid).ppid())
        """The postmaster, parent of every backend."""

    def create(self, name: str) -> str:
        """Create a database with the migrated tables and return its URL."""
        with self._admin.cursor() as cursor:
            cursor.execute(f"create database {name}")
        url = f"{self._server}/{name}"
        command = [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade"]
        subprocess.run(command, cwd=ROOT, env=self.environment(url), check=True, capture_output=True)
        return url

    def environment(self, url: str, **settings: str) -> dict[str, str]:
        """Return the environment of a process that uses a database; it overrides settings of .env."""
        data = self.home / (url.rpartition("/")[2] or "own")
        defaults = {name.upper(): "" for name in describe_settings()}
        unlimited = dict.fromkeys(("RATELIMIT_PER_CLIENT", "RATELIMIT_GLOBAL", "RATELIMIT_CONFLICTS"), "1000000000")
        own = {"PATH": os.environ["PATH"], "DATABASE_URL": url, "DATA_DIR": str(data)}
        return defaults | unlimited | own | settings

    def close(self) -> None:
        """Stop the server and remove its files."""
        self._admin.close()
        stop_using(self._root.resolve())
        self.process.wait(START_TIMEOUT_S)
        location = self._root / "location"
        if location.exists():
            shutil.rmtree(location.read_text(), ignore_errors=True)
        shutil.rmtree(self.home)


@contextmanager
def run_server(command: list[str], environment: dict[str, str]) -> Iterator[Server]:
    """Run a server on a free port while the block runs.

    Raises RuntimeError if the server exits or does not respond within START_TIMEOUT_S.
    """
    with create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment | {"PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            _await_response(f"http://{HOST}:{port}/livez", process)
            yield Server(port, psutil.Process(process.pid), time.perf_counter() - began)
        finally:
            process.terminate()


def _await_response(address: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(PAUSE_S)
    raise RuntimeError(f"{process.args!r} does not respond at {address}")
