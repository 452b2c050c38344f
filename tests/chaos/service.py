"""The service as in production: `python wsgi.py` on a fixed port.

Processes, log and spool are the usual ones.
"""

import atexit
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from project.domain.passwords import Passwords, Secret
from tests.chaos import processes
from tests.chaos.disks import on_small_disk, path_seen_by
from tests.chaos.processes import HOST, eventually

ROOT = Path(__file__).parents[2]
INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
"""Environment variables that the service inherits. The settings of a developer are not among them."""
PASS_SOCKET = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
    "os.execv(sys.argv[2], sys.argv[2:])"
)
"""Program that passes a socket as systemd does, see sd_listen_fds(3), and executes another program."""
_instances: "weakref.WeakSet[Service]" = weakref.WeakSet()

PASSWORD_SECRET = "shared by all instances of one database"
"""Secret of all instances of a database. One with another secret would warn that it cannot verify passwords."""


def environment(database_url: str, data_dir: Path, **settings: str) -> dict[str, str]:
    """Return the environment for a process of the service."""
    inherited = {name: value for name, value in os.environ.items() if name in INHERITED}
    ours = {"DATABASE_URL": database_url, "DATA_DIR": str(data_dir), "LOG_FORMAT": "json"}
    return inherited | ours | {"PASSWORD_SECRET": PASSWORD_SECRET} | settings


def migrate(database_url: str, revision: str = "head") -> None:
    """Migrate a database to a revision, in a separate process."""
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade", revision]
    with tempfile.TemporaryDirectory(prefix="chaos-migrate-") as folder:
        env = environment(database_url, Path(folder))
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


class Service:
    """One instance; its port, DATA_DIR and log file stay the same over restarts."""

    def __init__(self, database_url: str, *, host: str = HOST, prefix: Sequence[str] = (), **settings: str) -> None:
        """Configure an instance that serves on `host`.

        `prefix` is a command prefix, such as `ip netns exec`.
        """
        self.host = host
        self.port = processes.free_port()
        self.data_dir = Path(tempfile.mkdtemp(prefix="chaos-service-"))
        self.stderr, self.stdout = self.data_dir / "stderr.log", self.data_dir / "stdout.log"
        settings = {"HOST": host, "PORT": str(self.port), "WORKERS": "1", "RATELIMIT_ENABLED": "0"} | settings
        self._environment = environment(database_url, self.data_dir / "data", **settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._prefix = list(prefix)
        self._held: socket.socket | None = None
        self._mark = 0
        _instances.add(self)

    def configure(self, **settings: str) -> None:
        """Change settings before the next start."""
        self._environment |= settings

    # --- Starting and stopping ----------------------------------------------------------------------------------

    def launch(self) -> "Service":
        """Start the process and return at once."""
        with self.stderr.open("ab") as stderr, self.stdout.open("ab") as stdout:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, "wsgi.py"],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                pass_fds=[self._held.fileno()] if self._held else [],
            )
        return self

    def hold_socket(self) -> socket.socket:
        """Open the listening socket and pass it to the service, as systemd does.

        The socket stays open over restarts.
        """
        self._held = socket.create_server((HOST, self.port))
        self._prefix = [sys.executable, "-c", PASS_SOCKET, str(self._held.fileno())]
        return self._held

    def start(self, seconds: float = 30) -> "Service":
        """Start and wait until the service answers /livez."""
        self.launch()
        return self.await_start(seconds)

    def await_start(self, seconds: float = 30) -> "Service":
        """Wait until the service answers /livez."""
        eventually(self._answers, seconds, "the service does not answer /livez")
        return self

    def _answers(self) -> bool:
        assert self.is_running(), f"the service ended:\n{self.stderr.read_text(errors='replace')[-2000:]}"
        return self.get("/livez") == 200

    def get(self, path: str, timeout: float = 2) -> int | None:
        """Return the status of a GET, or None without a response."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    @property
    def pid(self) -> int:
        """PID of the main process, which may have workers as children."""
        assert self._process is not None, "this service was not started"
        return self._process.pid

    def is_running(self) -> bool:
        """Return whether the main process exists, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def workers(self) -> list[int]:
        """Return the PIDs of child processes, the oldest first; none if one process does it all."""
        return processes.children(self.pid)

    def kill(self) -> None:
        """SIGKILL every process, including orphaned workers; the spool stays."""
        if self._process is not None:
            if self.is_running():
                processes.kill(self.pid)
                self._process.wait()
            for survivor in self.survivors():
                processes.kill(survivor)

    def survivors(self) -> list[int]:
        """Return the PIDs of live processes of this service: none after a stop."""
        return processes.session_pids(self.pid)

    def kill_worker(self, pid: int | None = None) -> int:
        """SIGKILL one worker, by default the oldest; return its PID."""
        pid = pid or eventually(self.workers, 5, "the service has no workers")[0]
        processes.send_signal(signal.SIGKILL, [pid])
        return pid

    def terminate(self, seconds: float = 30) -> tuple[int, float]:
        """Send SIGTERM; return the exit status and the seconds until the exit."""
        started = time.monotonic()
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=seconds), time.monotonic() - started

    def freeze(self, pid: int | None = None) -> None:
        """SIGSTOP one process of the service, by default all."""
        processes.freeze(pid or self.pid)

    def thaw(self) -> None:
        """Send SIGCONT to all processes."""
        processes.send_signal(signal.SIGCONT, [*processes.descendants(self.pid), self.pid])

    def restart(self, **settings: str) -> None:
        """Stop the service with SIGTERM if it runs, and start it with changed settings."""
        if self.is_running():
            self.terminate()
        self.configure(**settings)
        self.start()

    def close(self) -> None:
        """Kill the service, whatever its state, and remove its files."""
        self.kill()
        shutil.rmtree(self.data_dir, ignore_errors=True)
        _instances.discard(self)

    def shrink_disk(self, mib: int) -> None:
        """Put the spool on a file system of `mib` MiB.

        The file system is empty at each start and vanishes with the last process.
        """
        self.spool.mkdir(parents=True)
        self._prefix = on_small_disk(self.spool, mib)

    # --- Logs and files -----------------------------------------------------------------------------------------

    def mark(self) -> None:
        """Make log_lines() begin at the current end of the log."""
        self._mark = self.stderr.stat().st_size if self.stderr.exists() else 0

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the lines logged since the mark; a line that is no JSON object has the level TEXT."""
        with self.stderr.open("rb") as file:
            file.seek(self._mark)
            return [_parsed(line) for line in file.read().decode(errors="replace").splitlines() if line.strip()]

    @property
    def spool(self) -> Path:
        """Directory of attempts that could not be written to PostgreSQL."""
        return self.data_dir / "data" / "spool"

    def spool_files(self) -> list[Path]:
        """Return all files of the spool."""
        spool = path_seen_by(self.pid, self.spool) if self._prefix and self.is_running() else self.spool
        return sorted(path for path in spool.rglob("*") if path.is_file())

    def texts(self) -> dict[str, str]:
        """Return the content of all files that the service wrote, by path, except its own secrets."""
        files = [self.stderr, self.stdout, *self.spool_files()]
        found = {}
        for path in files:
            with suppress(FileNotFoundError):  # a drained segment can vanish at any moment
                found[str(path)] = path.read_text(errors="replace")
        return found

    def own_secrets(self) -> set[str]:
        """Return the secrets of the service: its keys and the password of the database."""
        keys = {(self.data_dir / "data" / "secret_key").read_text().strip(), self._environment["PASSWORD_SECRET"]}
        return keys | {urlsplit(self._environment["DATABASE_URL"]).password or ""} - {""}

    @property
    def passwords(self) -> Passwords:
        """Password hashing with the secret of this service."""
        secret = self._environment["PASSWORD_SECRET"]
        return Passwords((Secret(secret.encode()),))


def _parsed(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"level": "TEXT", "message": line}


@atexit.register
def _close_all() -> None:
    for service in list(_instances):
        service.close()
