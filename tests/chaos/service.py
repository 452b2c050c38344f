"""The service as it really runs: `python wsgi.py` with its processes, its log, its spool, on a port that stays."""

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
from tests.chaos.disks import on_small_disk, seen_by
from tests.chaos.processes import HOST, eventually

ROOT = Path(__file__).parents[2]
KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
"""What the service sees of our environment: none of a developer's settings is among it."""
TAKE = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
    "os.execv(sys.argv[2], sys.argv[2:])"
)
"""Program that puts a socket where systemd would have put it, then becomes another one (sd_listen_fds(3))."""
_living: "weakref.WeakSet[Service]" = weakref.WeakSet()


def environment(database_url: str, data_dir: Path, **settings: str) -> dict[str, str]:
    """Return the environment of a process of the service."""
    ours = {name: value for name, value in os.environ.items() if name in KEPT}
    return ours | {"DATABASE_URL": database_url, "DATA_DIR": str(data_dir), "LOG_FORMAT": "json"} | settings


def migrate(database_url: str, revision: str = "head") -> None:
    """Make or change the tables, in a process of its own."""
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade", revision]
    with tempfile.TemporaryDirectory(prefix="chaos-migrate-") as folder:
        env = environment(database_url, Path(folder))
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


class Service:
    """One instance. Port and DATA_DIR stay the same over restarts; its log only grows."""

    def __init__(self, database_url: str, *, host: str = HOST, prefix: Sequence[str] = (), **settings: str) -> None:
        """Serve on `host`; what stands before the command, `prefix`, takes it there."""
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
        _living.add(self)

    # --- Life and death -----------------------------------------------------------------------------------------

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
        """Hold the socket for it from now on, as systemd does: it stays open while the service restarts."""
        self._held = socket.create_server((HOST, self.port))
        self._prefix = [sys.executable, "-c", TAKE, str(self._held.fileno())]
        return self._held

    def start(self, seconds: float = 30) -> "Service":
        """Start and wait until it answers /livez."""
        self.launch()
        return self.await_start(seconds)

    def await_start(self, seconds: float = 30) -> "Service":
        """Wait until it answers /livez."""
        eventually(self._answers, seconds, "the service does not answer /livez")
        return self

    def _answers(self) -> bool:
        assert self.is_running(), f"the service ended:\n{self.stderr.read_text(errors='replace')[-2000:]}"
        return self.get("/livez") == 200

    def get(self, path: str, timeout: float = 2) -> int | None:
        """Return the status of a GET, None when no answer came."""
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
        """The process that was started, which may have workers below it."""
        assert self._process is not None, "this service was not started"
        return self._process.pid

    def is_running(self) -> bool:
        """Tell whether the main process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def workers(self) -> list[int]:
        """Return the child processes, the oldest first; none when the main process serves alone."""
        return processes.children(self.pid)

    def kill(self) -> None:
        """SIGKILL every process at once, also those whose parent is dead; the spool stays as it is."""
        if self._process is not None:
            if self.is_running():
                processes.kill(self.pid)
                self._process.wait()
            for survivor in self.survivors():
                processes.kill(survivor)

    def survivors(self) -> list[int]:
        """Return the processes of this service that are alive: none, after a stop."""
        return processes.session(self.pid)

    def kill_worker(self, pid: int | None = None) -> int:
        """SIGKILL one worker, by default the oldest; return which."""
        pid = pid or eventually(self.workers, 5, "the service has no workers")[0]
        processes.send(signal.SIGKILL, [pid])
        return pid

    def term(self, seconds: float = 30) -> tuple[int, float]:
        """SIGTERM; return exit code and how long it took."""
        started = time.monotonic()
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=seconds), time.monotonic() - started

    def freeze(self, pid: int | None = None) -> None:
        """SIGSTOP one process of the service, by default all."""
        processes.freeze(pid or self.pid)

    def thaw(self) -> None:
        """Let everything go on."""
        processes.send(signal.SIGCONT, [*processes.descendants(self.pid), self.pid])

    def restart(self, **settings: str) -> None:
        """Stop politely, if it runs, and start again, with other settings if there are any."""
        if self.is_running():
            self.term()
        self._environment |= settings
        self.start()

    def close(self) -> None:
        """End it, whatever state it is in, and remove what it kept."""
        self.kill()
        shutil.rmtree(self.data_dir, ignore_errors=True)
        _living.discard(self)

    def shrink_disk(self, mib: int) -> None:
        """Give the spool a disk of its own, of so many MiB: empty at each start, gone with the last process."""
        self.spool.mkdir(parents=True)
        self._prefix = on_small_disk(self.spool, mib)

    # --- What it leaves behind ----------------------------------------------------------------------------------

    def mark(self) -> None:
        """Let log_lines() begin here."""
        self._mark = self.stderr.stat().st_size if self.stderr.exists() else 0

    def log_lines(self) -> list[dict[str, Any]]:
        """Return what was logged since the mark. A line that is no JSON object has the level TEXT."""
        with self.stderr.open("rb") as file:
            file.seek(self._mark)
            return [_parsed(line) for line in file.read().decode(errors="replace").splitlines() if line.strip()]

    @property
    def spool(self) -> Path:
        """Where the service keeps what PostgreSQL cannot take."""
        return self.data_dir / "data" / "spool"

    def spool_files(self) -> list[Path]:
        """Return all files of the spool."""
        seen = seen_by(self.pid, self.spool) if self._prefix and self.is_running() else self.spool
        return sorted(path for path in seen.rglob("*") if path.is_file())

    def texts(self) -> dict[str, str]:
        """Return all that the service wrote to disk, by file name, but for its own secrets."""
        files = [self.stderr, self.stdout, *self.spool_files()]
        found = {}
        for path in files:
            with suppress(FileNotFoundError):  # a drained segment goes at any moment
                found[str(path)] = path.read_text(errors="replace")
        return found

    def own_secrets(self) -> set[str]:
        """Return what only the service may know: its keys and the password of the database."""
        kept = {(self.data_dir / "data" / name).read_text().strip() for name in ("secret_key", "password_secret")}
        return kept | {urlsplit(self._environment["DATABASE_URL"]).password or ""} - {""}

    @property
    def passwords(self) -> Passwords:
        """What checks passwords with the secret of this service."""
        secret = (self.data_dir / "data" / "password_secret").read_text().strip()
        return Passwords((Secret(secret.encode()),))


def _parsed(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"level": "TEXT", "message": line}


@atexit.register
def _close_all() -> None:
    for service in list(_living):
        service.close()
