"""Hosts with addresses of their own around one switch, for processes that live in a network namespace of their own."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.chaos import processes

NETWORK = "198.18.77.0/24"
"""Of the network that RFC 2544 sets apart for tests."""
CLIENT = "198.18.77.1"
_SWITCH = "switch"


class Network:
    """The switch. Whoever makes it becomes the client host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        Path("/run/netns").mkdir(exist_ok=True)
        _do("mount -t tmpfs hosts /run/netns")  # names of hosts are ours alone
        _do(f"ip link add {_SWITCH} type bridge")
        _do(f"ip address add {CLIENT}/24 dev {_SWITCH}")
        for device in ("lo", _SWITCH):
            _do(f"ip link set {device} up")

    def host(self, name: str, number: int) -> "Host":
        """Put a host on the network."""
        host = Host(name, f"{NETWORK.rpartition('.')[0]}.{number}", self.folder / name)
        host.folder.mkdir(mode=0o755)
        _do(f"ip netns add {name}")
        _do(f"ip link add {name} type veth peer name eth0 netns {name}")
        _do(f"ip link set {name} up")
        _do(f"ip -n {name} address add {host.address}/24 dev eth0")
        for device in ("lo", "eth0"):
            _do(f"ip -n {name} link set {device} up")
        host.plug_in()
        return host


class Host:
    """One host: an address, a cable, processes, a folder."""

    def __init__(self, name: str, address: str, folder: Path) -> None:
        self.name, self.address, self.folder = name, address, folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def prefix(self) -> list[str]:
        """What to put before a command that shall run here: it takes its place."""
        return ["ip", "netns", "exec", self.name]

    def plug_in(self) -> None:
        """Connect it to the switch."""
        _do(f"ip link set {self.name} master {_SWITCH}")

    def pull_cable(self) -> None:
        """Lose everything that is sent to it or by it: nobody is told."""
        _do(f"ip link set {self.name} nomaster")

    def run(self, *command: str, user: str | None = None, settings: Mapping[str, str] | None = None) -> None:
        """Start a server program here; what it says is in a file of its name."""
        program = Path(command[0]).name
        become = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        with self.log(program).open("ab") as log:
            self._running[program] = subprocess.Popen(
                [*self.prefix, *become, *command],
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(self.folder)} | dict(settings or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self, program: str) -> None:
        """SIGKILL a program and all below it."""
        processes.kill(self._running[program].pid)
        self._running.pop(program).wait()

    def log(self, program: str) -> Path:
        """Where a program says what it does."""
        return self.folder / f"{program}.log"


def _do(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True)
