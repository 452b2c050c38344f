"""The watcher process, which runs the server as its child until no process uses it."""

import math
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from .cluster import run_server
from .connection_settings import choose_port, connect
from .data_directory import PROGRAM_TIMEOUT_S, DataDirectory, prepare_data_directory
from .locks import try_lock

PROGRAM = Path(__file__).resolve().with_name("__main__.py")
MAX_LOG_BYTES = 4 * 2**20
GIVE_UP_AFTER_S = 5.0  # for a server that only ended with errors; one that was killed or stopped is restarted forever
STOP_TIMEOUT_S = 30.0
POLL_EVERY_S = 0.1


class AdoptedServer:
    """A running server that a killed watcher has left behind. Has poll() like a Popen object."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        """Return None while the server runs, then a negative number, as after a kill."""
        try:
            os.kill(self.pid, 0)
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2]
        except ProcessLookupError:
            return -signal.SIGKILL
        except FileNotFoundError:  # no /proc, e.g. on macOS
            return None
        return -signal.SIGKILL if state.startswith("Z") else None  # PID 1 of a container often reaps no children


Server = subprocess.Popen[bytes] | AdoptedServer


def start_watcher(directory: DataDirectory) -> bool:
    """Start a watcher process, which inherits the lock; return False if a watcher is running.

    Raises OSError or subprocess.SubprocessError.
    """
    lock = try_lock(directory.root / "watcher.lock")
    if lock is None:
        return False
    try:
        # In a session of its own the watcher does not get Ctrl-C of this terminal.
        with open(directory.log, "ab", opener=_open_private) as log:
            subprocess.run(
                [sys.executable, "-I", PROGRAM, directory.root, directory.programs, str(lock)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,
                check=True,
                timeout=PROGRAM_TIMEOUT_S,
            )
        return True
    finally:
        os.close(lock)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def main(root: Path, programs: Path, lock: int) -> None:
    """Watch the server in `root`; `lock` is the inherited descriptor of watcher.lock.

    Continues in a child process; this process exits at once.
    """
    if os.fork():  # start_watcher() waits for the parent only; the watcher is reparented
        os._exit(0)
    os.set_inheritable(lock, False)
    _watch(prepare_data_directory(root, programs))


def _watch(directory: DataDirectory) -> None:
    """Keep the server running until no process uses it.

    Gives up after GIVE_UP_AFTER_S if the server has only ended with errors. Truncates the log at MAX_LOG_BYTES.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # a shutdown stops the processes that use the server, too
    give_up_at = time.monotonic() + GIVE_UP_AFTER_S
    pause = POLL_EVERY_S
    server = _adopt_or_start(directory)
    while try_lock(directory.root / "users.lock") is None:
        time.sleep(pause)
        if os.fstat(1).st_size > MAX_LOG_BYTES:
            os.ftruncate(1, 0)
        code = server.poll()
        if code is None:
            pause = POLL_EVERY_S
            continue
        if code <= 0:  # the server was killed or stopped, so it had started
            give_up_at = math.inf
        if time.monotonic() > give_up_at:
            return
        pause = min(2 * pause, 50 * POLL_EVERY_S)
        server = _adopt_or_start(directory)
    _stop(server)


def _adopt_or_start(directory: DataDirectory) -> Server:
    """Start the server, or adopt a running server that a killed watcher has left behind."""
    lock_file = directory.data / "postmaster.pid"
    pid = next(iter(lock_file.read_text().split()), "") if lock_file.exists() else ""
    if not pid:
        lock_file.unlink(missing_ok=True)  # empty after a power cut: PostgreSQL would refuse it
    elif connection := connect(directory):
        connection.close()
        return AdoptedServer(int(pid))
    elif _is_server(pid, directory):  # frozen: with another stored port, the server would never be found again
        return AdoptedServer(int(pid))
    return run_server(directory, choose_port(directory), replaced_pid=pid)


def _is_server(pid: str, directory: DataDirectory) -> bool:
    """Return whether a process is a server with this data directory; False without /proc."""
    with suppress(OSError):
        return bytes(directory.data) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


def _stop(server: Server) -> None:
    """Request a fast shutdown of the server, and an immediate one after STOP_TIMEOUT_S."""
    for number, timeout_s in ((signal.SIGINT, STOP_TIMEOUT_S), (signal.SIGQUIT, 5.0)):
        deadline = time.monotonic() + timeout_s
        if server.poll() is None:
            os.kill(server.pid, number)
        while server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
