"""What the chaos tests need of the operating system: trees of processes, signals, free ports, patience."""

import os
import random
import shutil
import signal
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

HOST = "127.0.0.1"
PORTS = range(20000, 32768)
"""Below those that systems hand out for outgoing connections: nobody takes one while its owner is dead."""
GONE = frozenset("ZX")


def find_program(name: str) -> str | None:
    """Return where a program lies, or None; those of administrators are not always on the PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:/usr/local/sbin")


def free_port() -> int:
    """Return a port on which nobody listens."""
    while True:
        port = random.choice(PORTS)  # noqa: S311 - guards nothing
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port


def state(pid: int) -> str:
    """Return the letter of the kernel: R, S, D, T (stopped), Z; X when there is no such process."""
    return _stat(pid)[0]


def is_alive(pid: int) -> bool:
    """Tell whether the process can still do something. A zombie cannot: pid 1 of a container often reaps nobody."""
    return state(pid) not in GONE


def children(pid: int) -> list[int]:
    """Return the children of a process that are alive, the oldest first."""
    return [one for one, parent, _ in _living() if parent == pid]


def descendants(pid: int) -> list[int]:
    """Return children, their children and so on, without the process itself."""
    below = defaultdict(list)
    for one, parent, _ in _living():
        below[parent].append(one)
    found = below[pid]
    for one in found:
        found += below[one]  # which are looked at in their turn
    return found


def session(leader: int) -> list[int]:
    """Return who lives in the session that a process began: also those whose parents are dead."""
    return [one for one, _, its_session in _living() if its_session == leader]


def _living() -> list[tuple[int, int, int]]:
    """Return pid, parent and session of every process that is alive, the oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = _stat(int(entry.name))
            if stat[0] not in GONE:
                found.append((int(stat[19]), int(entry.name), int(stat[1]), int(stat[3])))
    return [(pid, parent, its_session) for _, pid, parent, its_session in sorted(found)]


def _stat(pid: int) -> list[str]:
    """Return what the kernel says of a process, from its state on (proc(5): fields 3 to 52)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["X"]


def send(number: signal.Signals, pids: Iterable[int]) -> None:
    """Send a signal to each process that still exists."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def freeze(pid: int) -> list[int]:
    """Stop a process and all below it, the process first so that it makes no new ones; return whom."""
    frozen = [pid]
    send(signal.SIGSTOP, frozen)
    while fresh := [one for one in descendants(pid) if one not in frozen]:
        send(signal.SIGSTOP, fresh)
        frozen += fresh
    eventually(lambda: all(state(one) in GONE | {"T"} for one in frozen), 5, "processes did not stop")
    return frozen


def kill(pid: int) -> None:
    """Kill a process and all below it, the process first, and wait until none of them can do anything."""
    doomed = freeze(pid)
    send(signal.SIGKILL, doomed)
    eventually(lambda: not any(map(is_alive, doomed[1:])), 10, "processes survived SIGKILL")


def eventually(condition: Callable[[], T], seconds: float, otherwise: str) -> T:
    """Return what the condition gives as soon as that is true; fail with `otherwise` when it never is."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{otherwise} (waited {seconds} s)")
        time.sleep(0.01)
    return found
