"""Operating system helpers of the chaos tests: process trees, signals, free ports, polling."""

import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

HOST = "127.0.0.1"
PORTS = range(20000, 32768)
"""Ports below the ephemeral ones: no outgoing connection takes the port of a stopped server."""
MAX_WORKERS = 16
"""Maximum number of workers of pytest-xdist. Each worker draws its own ports: until a server listens on it, a port that
one worker has drawn seems free to the others."""
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % MAX_WORKERS
ENDED_STATES = frozenset("ZX")
"""States of ended processes: zombie, dead."""
LIMIT_S = 120.0
"""Maximum duration in seconds of a program that a test starts."""


def find_program(name: str) -> str | None:
    """Return the path of a program, or None.

    Also searches the sbin directories, which may not be on the PATH.
    """
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:/usr/local/sbin")


def free_port() -> int:
    """Return a port that nothing listens on."""
    while True:
        port = random.choice(PORTS[_WORKER::MAX_WORKERS])  # noqa: S311 - not security-relevant
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port


@contextmanager
def started(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a program in its own session; kill its processes after the block or LIMIT_S.

    Otherwise a test that fails, or that reads output which never comes, would wait forever.
    """
    with subprocess.Popen(command, start_new_session=True, **options) as process:
        limit = threading.Timer(LIMIT_S, _kill_group, [process.pid])
        limit.start()
        try:
            yield process
        finally:
            limit.cancel()
            _kill_group(process.pid)


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def state_letter(pid: int) -> str:
    """Return the state of a process as the letter of proc(5): R, S, D, T (stopped), Z.

    Returns X if there is no such process.
    """
    return _stat(pid)[0]


def is_alive(pid: int) -> bool:
    """Return whether the process exists and is no zombie.

    PID 1 of a container often reaps no zombies.
    """
    return state_letter(pid) not in ENDED_STATES


def children(pid: int) -> list[int]:
    """Return the PIDs of live children of a process, the oldest first."""
    return [child for child, parent, _ in _live_processes() if parent == pid]


def descendants(pid: int) -> list[int]:
    """Return the PIDs of the children of a process, of their children and so on."""
    children_of = defaultdict(list)
    for child, parent, _ in _live_processes():
        children_of[parent].append(child)
    found = children_of[pid]
    for child in found:
        found += children_of[child]  # the loop visits them, too
    return found


def session_pids(leader: int) -> list[int]:
    """Return the PIDs of live processes of a session, including those whose parents are dead."""
    return [pid for pid, _, session_id in _live_processes() if session_id == leader]


def _live_processes() -> list[tuple[int, int, int]]:
    """Return PID, parent and session of every live process, the oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = _stat(int(entry.name))
            if stat[0] not in ENDED_STATES:
                found.append((int(stat[19]), int(entry.name), int(stat[1]), int(stat[3])))
    return [(pid, parent, session_id) for _, pid, parent, session_id in sorted(found)]


def _stat(pid: int) -> list[str]:
    """Return fields 3 (state) to 52 of /proc/PID/stat, see proc(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["X"]


def send_signal(number: signal.Signals, pids: Iterable[int]) -> None:
    """Send a signal to each process that still exists."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def freeze(pid: int) -> list[int]:
    """Stop a process and its descendants, and return their PIDs.

    The process itself is stopped first, so that it forks no more.
    """
    frozen = [pid]
    send_signal(signal.SIGSTOP, frozen)
    while running := [child for child in descendants(pid) if child not in frozen]:
        send_signal(signal.SIGSTOP, running)
        frozen += running
    eventually(
        lambda: all(state_letter(process) in ENDED_STATES | {"T"} for process in frozen), 5, "processes did not stop"
    )
    return frozen


def kill(pid: int) -> None:
    """Kill a process and its descendants, itself first, and wait for their end."""
    frozen = freeze(pid)
    send_signal(signal.SIGKILL, frozen)
    eventually(lambda: not any(map(is_alive, frozen[1:])), 10, "processes survived SIGKILL")


def eventually(condition: Callable[[], T], seconds: float, message: str) -> T:
    """Poll the condition and return its first true result.

    Raises AssertionError with `message` after a timeout.
    """
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{message} (waited {seconds} s)")
        time.sleep(0.01)
    return found
