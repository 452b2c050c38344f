"""`./run units`: follows docs/deployment.md for systemd, under load and faults.

The commands run in a container with systemd as PID 1.
"""

import ctypes
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tasks import guide
from tasks.docker import clones, daemon, images, publish_version, require_docker, run_docker
from tasks.processes import log
from tasks.steps import Trial
from tests.chaos.load import Answer, Client
from tests.chaos.processes import eventually

IMAGE = "useradd-trial-systemd"
PASSWORD = "trial-password"  # noqa: S105 - of a container that is removed
INSTALL_EDITOR = f"""\
cat > /usr/local/bin/editor <<'EOF'
#!/bin/sh
sed -i 's/CHANGE-ME/{PASSWORD}/' "$@"
cat >>/etc/useradd/useradd.env <<SETTINGS
{guide.SETTINGS}SETTINGS
EOF
chmod 755 /usr/local/bin/editor
"""
"""Commands that install a substitute for an editor, which edits the files as docs/deployment.md says."""
READY_S = 15.0
"""Maximum seconds for a restart while PostgreSQL is frozen."""
CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Service:
    """The address of useradd.socket: a name, because TRUSTED_HOSTS contains no IP address."""

    host: str = "localhost"
    port: int = 8000


class RepeatingClient(Client):
    """A client that retries a request once if there is no response, as the proxies do."""

    def post(self, body: Mapping[str, str], key: str, timeout: float = 10) -> Answer:
        """Send a body and return the answer with the duration of both requests in seconds."""
        first = super().post(body, key, timeout)
        if first.status is not None:
            return first
        second = super().post(body, key, timeout)
        return replace(second, seconds=first.seconds + second.seconds)


@dataclass(frozen=True)
class Machine:
    """A container in which the commands of docs/deployment.md run as root."""

    container: str

    def run(self, commands: str, answers: str = "") -> str:
        """Run commands and return their output; exit if one fails."""
        return guide.run_commands(commands, answers, ["docker", "exec", "--interactive", self.container])

    def query_column(self, sql: str) -> set[str]:
        """Execute a query with one column and return the set of its values."""
        return set(self.run(f'sudo -u postgres psql -d useradd -At -c "{sql}"').split())

    def enter_network(self) -> None:
        """Move this thread, and threads that it starts, into the container's network namespace."""
        pid = run_docker("inspect", "--format", "{{.State.Pid}}", self.container)
        with Path(f"/proc/{pid}/ns/net").open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")


def main() -> None:
    """Run all steps and print a tally; exit with 1 on a loss or a start of more than READY_S."""
    if sys.argv[1:]:
        sys.exit("run: units takes no options")
    require_docker("units")
    with daemon(), images(IMAGE), clones() as (repository, _), running_machine(repository) as machine:
        install(machine)
        machine.enter_network()
        sys.exit(not run_trial(machine, repository))


@contextmanager
def running_machine(repository: Path) -> Iterator[Machine]:
    """Start a container with systemd; remove the container at the end."""
    # Instead of --privileged, which fails if root itself lacks SYS_RESOURCE. systemd needs no SYS_RESOURCE.
    options = ["--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--cgroupns=host", "--tmpfs=/run"]
    options += [f"--security-opt={each}=unconfined" for each in ("seccomp", "apparmor", "systempaths")]
    options += ["--volume=/sys/fs/cgroup:/sys/fs/cgroup", "--volume=/var/lib/useradd"]
    machine = Machine(run_docker("run", "--detach", *options, f"--volume={repository}:/repository:ro", IMAGE))
    try:
        state = "systemctl is-system-running || true"
        eventually(lambda: machine.run(state).strip() in {"running", "degraded"}, 120, "systemd does not start")
        yield machine
    finally:
        run_docker("rm", "--force", "--volumes", machine.container)


def install(machine: Machine) -> None:
    """Install the service as docs/deployment.md says."""
    log("== installing")
    apt = "DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends"
    machine.run(f"apt-get update -qq; {apt} {' '.join(guide.find_packages())} 2>&1")
    machine.run(INSTALL_EDITOR)
    installation = guide.find_block("systemctl enable --now useradd.socket", {"REPOSITORY": "/repository"})
    machine.run(installation, f"{PASSWORD}\n" * 4)
    machine.run(guide.find_block("as_useradd users create-admin"), guide.ADMINISTRATOR)


def run_trial(machine: Machine, repository: Path) -> bool:
    """Run all steps and print the tally; return whether starts were quick and nothing was lost."""
    trial = Trial(Service(), RepeatingClient)
    with trial.step("`systemctl restart useradd`"):
        machine.run("systemctl restart useradd")
    with trial.step("main process killed"):
        machine.run("systemctl kill --signal=KILL --kill-whom=main useradd")
    with trial.step("restart while PostgreSQL is frozen"):
        machine.run("systemctl kill --signal=STOP 'postgresql@*'")
        start = time.monotonic()
        machine.run("systemctl restart useradd")
        eventually(is_ready, 120, "the service does not become ready")
        ready_s = time.monotonic() - start
        machine.run("systemctl kill --signal=CONT 'postgresql@*'")
    publish_version(repository)
    with trial.step("upgrade"):
        # docs/deployment.md: a slow migration continues in the background.
        migration = "systemctl start useradd-migrate "
        machine.run(guide.find_block("cd /opt/useradd && git pull", {migration: f"{migration}|| true "}))
    with trial.step("backup"):
        machine.run(guide.find_block("systemctl start useradd-backup && ls"))
    status = "as_useradd spool status"
    eventually(lambda: machine.run(status).startswith("Attempts on disk: 0 "), 60, "the spool is not drained")
    users, attempts = machine.query_column("select id from users"), machine.query_column("select id from attempts")
    table, lost = trial.tally(users, attempts)
    exposure = re.findall(r"exposure level .*: ([\d.]+)", machine.run("systemd-analyze security useradd.service"))
    restored = restore(machine)
    print(f"{table}\n\nready {ready_s:.1f} s after the restart while PostgreSQL was frozen")
    print(f"exposure of useradd.service: {exposure[0]}\nrestored: {restored} of {len(users)} users")
    return lost == 0 and ready_s < READY_S and restored == len(users)


def is_ready() -> bool:
    """Return whether /readyz responds with 200."""
    client = Client(Service())
    try:
        return client.get("/readyz")[0] == 200
    except OSError:
        return False
    finally:
        client.close()


def restore(machine: Machine) -> int:
    """Back up without load and restore; return the number of restored users."""
    log("== restore")
    newest = machine.run(guide.find_block("systemctl start useradd-backup && ls")).split()[-1]
    machine.run(guide.find_block("deploy/restore.sh", {"2026-...": newest}))
    return len(machine.query_column("select id from users"))


if __name__ == "__main__":
    main()
