"""The process that runs the server as its child: how it is started, what it does, when it ends."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from .cluster import run_server
from .connection_settings import choose_port, connect
from .data_directory import DataDirectory, settle
from .locks import try_lock

PROGRAM = Path(__file__).resolve().with_name("__main__.py")
LOG_LIMIT = 4 * 2**20
GIVE_UP_AFTER = 5.0  # a server that cannot start at all; one that once ran is started again for ever
STOP_TIMEOUT = 30.0
PAUSE = 0.1  # between two looks of the watcher


class AdoptedServer:
    """A server whose watcher was killed. It is not our child, so only its pid can be looked at."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        try:
            os.kill(self.pid, 0)
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2]
        except ProcessLookupError:
            return -signal.SIGKILL
        except FileNotFoundError:  # no /proc, as on macOS
            return None
        return -signal.SIGKILL if state.startswith("Z") else None  # pid 1 of a container often reaps nobody


Server = subprocess.Popen[bytes] | AdoptedServer


def start_watcher(directory: DataDirectory) -> None:
    """Start a watcher unless there is one. It gets the lock from us, so there is no moment without its holder."""
    lock = try_lock(directory.root / "watcher.lock")
    if lock is None:
        return
    try:
        # A session of its own: Ctrl-C in our terminal is not for it. Run by path, it needs nothing of the service.
        with open(directory.log, "ab", opener=_private) as log:
            subprocess.run(
                [sys.executable, "-I", PROGRAM, directory.root, directory.programs, str(lock)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,
                check=True,
            )
    finally:
        os.close(lock)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def main(root: Path, programs: Path, lock: int) -> None:
    """Watch the server in `root`; `lock` is the descriptor of the lock that says so."""
    if os.fork():  # the starter waits for this process only, and the watcher is nobody's child
        os._exit(0)
    os.set_inheritable(lock, False)
    _watch(settle(root, programs))


def _watch(directory: DataDirectory) -> None:
    """Keep the server running until its last user has left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # whoever stops a machine or a service stops the users, too
    give_up_at = time.monotonic() + GIVE_UP_AFTER
    pause = PAUSE
    server = _adopt_or_start(directory)
    while try_lock(directory.root / "users.lock") is None:
        time.sleep(pause)
        if os.fstat(1).st_size > LOG_LIMIT:
            os.ftruncate(1, 0)
        code = server.poll()
        if code is None:
            pause = PAUSE
            continue
        if code <= 0:  # it was killed or told to stop, so it had been able to start
            give_up_at = math.inf
        if time.monotonic() > give_up_at:
            return
        pause = min(2 * pause, 50 * PAUSE)
        server = _adopt_or_start(directory)
    _stop(server)


def _adopt_or_start(directory: DataDirectory) -> Server:
    """Start the server, or take over one that runs although its watcher was killed."""
    lock_file = directory.data / "postmaster.pid"
    pid = next(iter(lock_file.read_text().split()), "") if lock_file.exists() else ""
    if not pid:
        lock_file.unlink(missing_ok=True)  # left empty by a power cut: PostgreSQL would refuse it
    elif connection := connect(directory):
        connection.close()
        return AdoptedServer(int(pid))
    return run_server(directory, choose_port(directory), replaces=pid)


def _stop(server: Server) -> None:
    """Stop it fast, which ends sessions and writes everything; at once, if that takes too long."""
    for number, patience in ((signal.SIGINT, STOP_TIMEOUT), (signal.SIGQUIT, 5.0)):
        deadline = time.monotonic() + patience
        if server.poll() is None:
            os.kill(server.pid, number)
        while server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
