"""`./run cluster`: moves to a network and a tree of processes of its own, which end with it, and goes on there."""

import os
import shutil
import subprocess
import sys

PACKAGES = {
    "patroni": "patroni",
    "etcd": "etcd-server",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "/usr/lib/postgresql/15/bin/postgres": "postgresql-15",
}
"""Programs, and the packages of Debian 12 that have them."""
# The shell reaps whoever is left without parents: a dead PostgreSQL must not stay behind as a zombie.
APART = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", '"$@"; exit $?']


def main() -> None:
    """Install what is missing, then run the cluster apart from everything else."""
    if os.geteuid() != 0:
        sys.exit("./run cluster makes hosts of its own, which only root may do")
    missing = sorted(package for program, package in PACKAGES.items() if not shutil.which(program))
    if missing:
        install(missing)
    command = [*APART, "sh", sys.executable, "-m", "tests.cluster.run", *sys.argv[1:]]
    os.execvp(command[0], command)  # noqa: S606 - takes the place of this process


def install(packages: list[str]) -> None:
    """Install packages, without starting the services that they bring."""
    if not shutil.which("apt-get"):
        sys.exit(f"./run cluster needs Debian's {', '.join(packages)}")
    print(f"== installing {', '.join(packages)}", file=sys.stderr, flush=True)
    # In runlevel 1 invoke-rc.d starts nothing.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for step in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", *step], env=environment, stdout=sys.stderr, check=True)


if __name__ == "__main__":
    main()
