"""A host of its own at the end of a cable: when the cable is cut, what is sent is lost and nobody acknowledges it."""

import ctypes
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chaos.processes import find_program

NAMESPACE = f"chaos-{os.getpid()}"
HERE, THERE = "198.18.7.1", "198.18.7.2"
"""Of the network that RFC 2544 sets apart for tests."""
_CABLE = f"chaos{os.getpid()}"
_CLONE_NEWNET = 0x40000000


class Host:
    """Another host, in a network namespace. Skips the test where nobody may make one."""

    def __init__(self) -> None:
        if os.geteuid() != 0 or not (find_program("ip") and find_program("tc")):
            pytest.skip("needs root and iproute2, for a host of its own")
        _do(f"ip netns add {NAMESPACE}")
        _do(f"ip link add {_CABLE} type veth peer name {_CABLE} netns {NAMESPACE}")
        for where, address in (("ip", HERE), (f"ip -n {NAMESPACE}", THERE)):
            _do(f"{where} address add {address}/30 dev {_CABLE}")
            _do(f"{where} link set {_CABLE} up")

    def listen(self) -> socket.socket:
        """Open a port on that host. Whoever is accepted there can be served from here."""
        with ThreadPoolExecutor(1) as stranger:  # a namespace is a matter of one thread
            return stranger.submit(_listen_there).result()

    def cut(self) -> None:
        """Lose what is sent from here, without a word to anybody."""
        _do(f"tc qdisc add dev {_CABLE} root blackhole")

    def mend(self) -> None:
        """Let everything pass again."""
        _do(f"tc qdisc del dev {_CABLE} root")

    def close(self) -> None:
        """Take the host away, and the cable with it."""
        _do(f"ip link delete {_CABLE}")
        _do(f"ip netns delete {NAMESPACE}")


def _listen_there() -> socket.socket:
    with Path(f"/run/netns/{NAMESPACE}").open() as namespace:
        assert ctypes.CDLL(None).setns(namespace.fileno(), _CLONE_NEWNET) == 0
    return socket.create_server((THERE, 0), backlog=200)


def _do(command: str) -> None:
    program, *arguments = command.split()
    subprocess.run([str(find_program(program)), *arguments], check=True, capture_output=True)
