"""`./run cluster`: run tests.cluster.run in its own namespaces, which end with it.

They are namespaces for network, mounts and PIDs.
"""

import os
import shutil
import subprocess
import sys

from tests.cluster.run import parse_options

PACKAGES = {
    "patroni": "patroni",
    "etcd": "etcd-server",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "/usr/lib/postgresql/15/bin/postgres": "postgresql-15",
}
"""Programs and the Debian 12 packages that contain them."""
# The shell reaps orphans, so that a dead PostgreSQL does not stay a zombie.
UNSHARE = [
    "unshare",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "sh",
    "-c",
    '"$@"; exit $?',
]


def main() -> None:
    """Install missing packages and run the cluster in new namespaces."""
    parse_options()  # exits after --help or an invalid option, before anything is installed
    if os.geteuid() != 0:
        sys.exit("./run cluster needs root to create network namespaces")
    missing = sorted(package for program, package in PACKAGES.items() if not shutil.which(program))
    if missing:
        install(missing)
    command = [*UNSHARE, "sh", sys.executable, "-m", "tests.cluster.run", *sys.argv[1:]]
    os.execvp(command[0], command)  # noqa: S606 - replaces this process


def install(packages: list[str]) -> None:
    """Install packages without starting their services."""
    if not shutil.which("apt-get"):
        sys.exit(f"./run cluster needs Debian's {', '.join(packages)}")
    print(f"== installing {', '.join(packages)}", file=sys.stderr, flush=True)
    # In runlevel 1 invoke-rc.d starts nothing.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for step in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", *step], env=environment, stdout=sys.stderr, check=True)


if __name__ == "__main__":
    main()
