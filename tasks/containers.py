"""`./run containers`: follows docs/deployment.md for containers, under load and faults."""

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from config import ROOT
from tasks import guide
from tasks.docker import clones, daemon, images, publish_version, require_docker, run_docker
from tasks.processes import log
from tasks.steps import Trial
from tests.chaos.load import Client, Endpoint
from tests.chaos.processes import eventually

HOST = "users.example.org"
INSTALLATION = "deploy/secrets.sh   # once"
FROZEN_S = 12.0
HEALTHY_S = 120.0


@dataclass(frozen=True)
class Proxy:
    """The address of the proxy, which listens on port 443 here, and its certificates."""

    certificates: Path
    host: str = HOST
    port: int = 443


class Connection(http.client.HTTPSConnection):
    """An HTTPS connection to this machine with the public host name."""

    def connect(self) -> None:
        """Connect to 127.0.0.1 instead of resolving the name."""
        raw = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        self.sock = self._context.wrap_socket(raw, server_hostname=self.host)  # type: ignore[attr-defined]


class ProxyClient(Client):
    """A client that trusts only the certificates of the proxy."""

    def __init__(self, proxy: Endpoint) -> None:
        super().__init__(proxy)
        assert isinstance(proxy, Proxy)  # noqa: S101 - for mypy
        self._trusted = proxy.certificates

    def _new_connection(self) -> http.client.HTTPConnection:
        return Connection(*self._address, context=ssl.create_default_context(cafile=str(self._trusted)))


class Containers:
    """The containers of an installation. The commands run in `checkout`."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        (self._compose,) = re.findall(r"^C=.*$", guide.find_block(INSTALLATION), re.MULTILINE)

    def run(self, commands: str, answers: str = "") -> str:
        """Run commands of docs/deployment.md and return the output; exit if one fails."""
        return guide.run_commands(f"{self._compose}\n{commands}", answers, directory=self.checkout)

    def query_column(self, sql: str) -> set[str]:
        """Execute a query with one column and return the set of its values."""
        return set(self.run(f'$C exec -T postgres psql -U postgres useradd -At -c "{sql}"').split())

    def await_healthy(self, name: str) -> None:
        """Wait until an instance passes its health check and the proxy had time to notice."""
        command = f"$C ps --format '{{{{.Health}}}}' {name}"
        eventually(lambda: self.run(command).strip() == "healthy", HEALTHY_S, f"{name} is not healthy")
        time.sleep(2)

    def main_process(self, name: str) -> int:
        """Return the PID of an instance's main process on this machine."""
        return int(run_docker("inspect", "--format", "{{.State.Pid}}", self.run(f"$C ps --quiet {name}").strip()))


def main() -> None:
    """Run all steps and print a tally; exit with 1 if a request or a backed-up user was lost."""
    if sys.argv[1:]:
        sys.exit("run: containers takes no options")
    require_docker("containers")
    with daemon(), images(*base_images()), clones() as (repository, checkout), installation(checkout) as containers:
        sys.exit(not run_trial(containers, repository))


def base_images() -> list[str]:
    """Return the public images that the Dockerfile and compose.yaml use."""
    deploy = ROOT / "deploy"
    dockerfile = re.findall(r"^FROM (\S+)", (deploy / "Dockerfile").read_text(), re.MULTILINE)
    compose = re.findall(r"^ +image: ((?:postgres|haproxy):\S+)", (deploy / "compose.yaml").read_text(), re.MULTILINE)
    return [*dict.fromkeys(dockerfile), *compose]


@contextmanager
def installation(checkout: Path) -> Iterator[Containers]:
    """Install as docs/deployment.md says; remove containers, volumes and images at the end."""
    containers = Containers(checkout)
    (checkout / "deploy" / "settings.env").write_text(guide.SETTINGS)
    log("== installing")
    try:
        containers.run(guide.find_block(INSTALLATION), guide.ADMINISTRATOR)
        yield containers
    finally:
        containers.run("$C down --volumes --timeout 1 2>&1; docker image rm useradd:latest || true")


def run_trial(containers: Containers, repository: Path) -> bool:
    """Run all steps and print the tally; return whether no request and no user was lost."""
    deploy = containers.checkout / "deploy"
    size = int(run_docker("image", "inspect", "--format", "{{.Size}}", "useradd:latest"))
    base = int(run_docker("image", "inspect", "--format", "{{.Size}}", base_images()[0]))
    with tempfile.TemporaryDirectory(prefix="useradd-trial-") as name:
        trusted, renewed = Path(name) / "trusted.pem", new_certificate(deploy, Path(name))
        trusted.write_text((deploy / "secrets" / "certificate.pem").read_text() + renewed.read_text())
        trial = Trial(Proxy(trusted), ProxyClient)
        with trial.step("certificate renewed"):
            containers.run(guide.find_block("kill --signal USR2", {"YOUR-CERTIFICATE-AND-KEY.pem": str(renewed)}))
        publish_version(repository)
        with trial.step("upgrade, one instance after the other"):
            containers.run(guide.find_block("$C run --rm migrate"))
        with trial.step("both instances restarted, one after the other"):
            for instance in ("one", "two"):
                containers.run(f"$C restart {instance}")
                containers.await_healthy(instance)
        with trial.step("one instance killed"):
            os.kill(containers.main_process("one"), signal.SIGKILL)
            time.sleep(1)
            containers.await_healthy("one")
        with trial.step(f"PostgreSQL paused for {FROZEN_S:.0f} s"):
            containers.run("$C pause postgres")
            time.sleep(FROZEN_S)
            containers.run("$C unpause postgres")
        backups = Path(name) / "backups"
        with trial.step("backup"):
            containers.run(guide.find_block("deploy/backup-containers.sh", {"/var/backups/useradd": str(backups)}))
        eventually(lambda: spool_is_empty(containers), 60, "the spool is not drained")
        users, attempts = (
            containers.query_column("select id from users"),
            containers.query_column("select id from attempts"),
        )
        table, lost = trial.tally(users, attempts)
        restored = restore(containers, backups)
    print(f"{table}\n\nimage: {size / 1e6:.0f} MB, {(size - base) / 1e6:.0f} MB on top of the base image")
    print(f"restored: {restored} of {len(users)} users")
    return lost == 0 and restored == len(users)


def new_certificate(deploy: Path, folder: Path) -> Path:
    """Create a second certificate for HOST with deploy/secrets.sh; return its path."""
    (folder / "secrets.sh").write_bytes((deploy / "secrets.sh").read_bytes())
    subprocess.run(["sh", folder / "secrets.sh"], check=True, env=os.environ | {"USERADD_HOST": HOST})
    return folder / "secrets" / "certificate.pem"


def spool_is_empty(containers: Containers) -> bool:
    """Return whether no instance has spooled attempts."""
    statuses = [containers.run(f"$C exec -T {name} python -m flask spool status") for name in ("one", "two")]
    return all(status.startswith("Attempts on disk: 0 ") for status in statuses)


def restore(containers: Containers, backups: Path) -> int:
    """Back up without load, delete the volumes, restore; return the number of restored users."""
    log("== restore")
    containers.run(guide.find_block("deploy/backup-containers.sh", {"/var/backups/useradd": str(backups)}))
    newest = max(backups.iterdir()).name
    containers.run("$C down --volumes")
    containers.run(guide.find_block("pg_restore -U postgres", {"/var/backups/useradd/2026-...": str(backups / newest)}))
    return len(containers.query_column("select id from users"))


if __name__ == "__main__":
    main()
