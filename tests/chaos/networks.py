"""A host in a network namespace. Its link can be cut, so that packets are lost silently."""

import ctypes
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.chaos.processes import find_program

NAMESPACE = f"chaos-{os.getpid()}"
_NETWORK = ip_address("198.18.0.0") + os.getpid() % 2**15 * 4
LOCAL_ADDRESS, REMOTE_ADDRESS = str(_NETWORK + 1), str(_NETWORK + 2)
"""Addresses in the network that RFC 2544 reserves for benchmarks. Each process has addresses of its own."""
_LINK = f"chaos{os.getpid()}"
_CLONE_NEWNET = 0x40000000


class Host:
    """Another host, in a network namespace.

    Skips the test without the privileges to create one.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0 or not (find_program("ip") and find_program("tc")):
            pytest.skip("needs root and iproute2 to create a network namespace")
        _run(f"ip netns add {NAMESPACE}")
        _run(f"ip link add {_LINK} type veth peer name {_LINK} netns {NAMESPACE}")
        for ip, address in (("ip", LOCAL_ADDRESS), (f"ip -n {NAMESPACE}", REMOTE_ADDRESS)):
            _run(f"{ip} address add {address}/30 dev {_LINK}")
            _run(f"{ip} link set {_LINK} up")

    def listen(self) -> socket.socket:
        """Listen on a free port of that host; return the listening socket."""
        with ThreadPoolExecutor(1) as executor:  # setns() changes the namespace of one thread
            return executor.submit(_listen_in_namespace).result()

    def cut(self) -> None:
        """Silently drop all packets sent from this host."""
        _run(f"tc qdisc add dev {_LINK} root blackhole")

    def restore(self) -> None:
        """Deliver the packets of this host again."""
        _run(f"tc qdisc del dev {_LINK} root")

    def close(self) -> None:
        """Remove the host and its link."""
        _run(f"ip link delete {_LINK}")
        _run(f"ip netns delete {NAMESPACE}")


def _listen_in_namespace() -> socket.socket:
    with Path(f"/run/netns/{NAMESPACE}").open() as namespace:
        assert ctypes.CDLL(None).setns(namespace.fileno(), _CLONE_NEWNET) == 0
    return socket.create_server((REMOTE_ADDRESS, 0), backlog=200)


def _run(command: str) -> None:
    program, *arguments = command.split()
    subprocess.run([str(find_program(program)), *arguments], check=True, capture_output=True)
