"""Hosts in network namespaces connected by a bridge.

Runs in a network namespace itself.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.chaos import processes

NETWORK = "198.18.77.0/24"
"""From the network that RFC 2544 reserves for benchmark tests."""
CLIENT = "198.18.77.1"
_BRIDGE = "switch"


class Network:
    """The network; the process that creates it gets the address CLIENT."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        Path("/run/netns").mkdir(exist_ok=True)
        _run("mount -t tmpfs hosts /run/netns")  # keeps the names of namespaces private
        _run(f"ip link add {_BRIDGE} type bridge")
        _run(f"ip address add {CLIENT}/24 dev {_BRIDGE}")
        for device in ("lo", _BRIDGE):
            _run(f"ip link set {device} up")

    def host(self, name: str, number: int) -> "Host":
        """Add a host to the network."""
        host = Host(name, f"{NETWORK.rpartition('.')[0]}.{number}", self.folder / name)
        host.folder.mkdir(mode=0o755)
        _run(f"ip netns add {name}")
        _run(f"ip link add {name} type veth peer name eth0 netns {name}")
        _run(f"ip link set {name} up")
        _run(f"ip -n {name} address add {host.address}/24 dev eth0")
        for device in ("lo", "eth0"):
            _run(f"ip -n {name} link set {device} up")
        host.plug_in()
        return host


class Host:
    """A host with an address, a link, processes and a folder."""

    def __init__(self, name: str, address: str, folder: Path) -> None:
        self.name, self.address, self.folder = name, address, folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def prefix(self) -> list[str]:
        """Command prefix that runs a command on this host, in the same process."""
        return ["ip", "netns", "exec", self.name]

    def plug_in(self) -> None:
        """Connect the host to the bridge."""
        _run(f"ip link set {self.name} master {_BRIDGE}")

    def pull_cable(self) -> None:
        """Silently drop everything that is sent to or from this host."""
        _run(f"ip link set {self.name} nomaster")

    def run(self, *command: str, user: str | None = None, settings: Mapping[str, str] | None = None) -> None:
        """Start a server program on this host; it logs to a file with its name."""
        program = Path(command[0]).name
        set_user = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        with self.log(program).open("ab") as log:
            self._running[program] = subprocess.Popen(
                [*self.prefix, *set_user, *command],
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(self.folder)} | dict(settings or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self, program: str) -> None:
        """SIGKILL a program and its descendants."""
        processes.kill(self._running[program].pid)
        self._running.pop(program).wait()

    def log(self, program: str) -> Path:
        """Return the log file of a program."""
        return self.folder / f"{program}.log"


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True)
