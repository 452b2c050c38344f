"""nginx and HAProxy as `deploy/` configures them, before two instances, on ports and with files of the tests' own."""

import atexit
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from tests.chaos import processes
from tests.chaos.load import Client, Listening
from tests.chaos.processes import HOST, eventually
from tests.chaos.service import Service

DEPLOY = Path(__file__).parents[2] / "deploy"
PAGES = ("503.html", "503.json")
FAR = "127.0.0.2"
"""Where clients come from: not the address of the proxy."""
_living: "weakref.WeakSet[Front]" = weakref.WeakSet()


def program(name: str) -> str:
    """Return where a program lies that has to be there."""
    found = processes.find_program(name)
    assert found, f"{name} is not installed: as root, `./run test` installs it"
    return found


class Front:
    """One proxy. `port` takes https, `plain_port` http; its certificate is of its own making."""

    host = HOST

    def __init__(self, instances: Sequence[Service]) -> None:
        self.port, self.plain_port = processes.free_port(), processes.free_port()
        self.instances = list(instances)
        self.folder = Path(tempfile.mkdtemp(prefix="front-"))
        self.log = self.folder / "log"
        for page in PAGES:
            shutil.copy(DEPLOY / page, self.folder)
        _make_certificate(self.folder)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(), env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        _living.add(self)
        eventually(self._listens, 10, "the proxy does not listen")

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath)}

    def _listens(self) -> bool:
        assert self._process.poll() is None, f"the proxy ended:\n{self.log.read_text()}"
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def open(self, source: str = HOST) -> http.client.HTTPSConnection:
        """Return a connection that trusts this proxy's certificate and no other."""
        context = ssl.create_default_context(cafile=str(self.folder / "certificate.pem"))
        return http.client.HTTPSConnection(HOST, self.port, context=context, timeout=15, source_address=(source, 0))

    def get(self, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        """Return the answer to a GET, and its body."""
        connection = self.open()
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def ready(self) -> None:
        """Wait until every instance is used."""
        eventually(self._uses_all, 60, "an instance is not used")

    def _uses_all(self) -> bool:
        return all(one.get("/readyz") == 200 for one in self.instances) and self.get("/livez")[0].status == 200

    def close(self) -> None:
        """End it and remove its files."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                processes.kill(self._process.pid)
        shutil.rmtree(self.folder, ignore_errors=True)
        _living.discard(self)


class Haproxy(Front):
    """HAProxy with deploy/haproxy.cfg as it is; its environment says where everything is."""

    def _command(self) -> list[str]:
        text = (DEPLOY / "haproxy.cfg").read_text()
        if os.geteuid() != 0:  # who is not root cannot become anybody else
            text = re.sub(r"^    (user|group) haproxy$", "", text, flags=re.MULTILINE)
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(text)
        return [program("haproxy"), "-db", "-f", str(configuration)]

    def _environment(self) -> dict[str, str]:
        one, two = (f"{HOST}:{instance.port}" for instance in self.instances)
        return super()._environment() | {
            "USERADD_1": one,
            "USERADD_2": two,
            "BIND_HTTP": f"{HOST}:{self.plain_port}",
            "BIND_HTTPS": f"{HOST}:{self.port}",
            "CERTIFICATES": str(self.folder / "both.pem"),
            "PAGES": str(self.folder),
            "ADMIN_SOCKET": str(self._admin_socket),
        }

    def _listens(self) -> bool:
        """Its ports come first, its socket a moment later."""
        return super()._listens() and self._admin_socket.exists()

    @property
    def _admin_socket(self) -> Path:
        return self.folder / "admin.sock"

    def _uses_all(self) -> bool:
        """Ask HAProxy itself what its health checks have found."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self._admin_socket))
            admin.sendall(b"show stat\n")
            found = admin.makefile().read()
        states = [
            line.split(",")[17] for line in found.splitlines() if line.startswith("useradd,") and "BACKEND" not in line
        ]
        return states == ["UP"] * len(self.instances)


class Nginx(Front):
    """nginx with deploy/nginx.conf, in which ports and files are replaced."""

    def _command(self) -> list[str]:
        one, two = (f"{HOST}:{instance.port}" for instance in self.instances)
        text = (DEPLOY / "nginx.conf").read_text()
        for shipped, ours in {
            "127.0.0.1:8000": one,
            "127.0.0.1:8001": two,
            "listen 80;": f"listen {HOST}:{self.plain_port};",
            "listen 443 ": f"listen {HOST}:{self.port} ",
            "/etc/nginx/useradd": str(self.folder),
        }.items():
            assert shipped in text
            text = text.replace(shipped, ours)
        (self.folder / "useradd.conf").write_text(text)
        temporary = "".join(
            f"{name}_temp_path {self.folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        self.folder.chmod(0o755)  # workers are somebody else when we are root
        main = self.folder / "nginx.conf"
        main.write_text(
            f"daemon off;\nworker_processes 2;\npid {self.folder}/pid;\nerror_log stderr;\n"
            f"events {{ worker_connections 1024; }}\n"
            f"http {{\n{temporary}access_log off;\ninclude {self.folder}/useradd.conf;\n}}\n"
        )
        return [program("nginx"), "-p", str(self.folder), "-e", "stderr", "-c", str(main)]


class FarClient(Client):
    """A client that comes by https from an address of its own."""

    def __init__(self, front: Listening) -> None:
        super().__init__(front)
        assert isinstance(front, Front)
        self._front = front

    def _new_connection(self) -> http.client.HTTPConnection:
        return self._front.open(source=FAR)


def _make_certificate(folder: Path) -> None:
    """Make a certificate for this machine's own address, and one file with both it and its key."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=useradd", "-addext", f"subjectAltName=IP:{HOST}", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    (folder / "both.pem").write_bytes(certificate.read_bytes() + key.read_bytes())


@atexit.register
def _close_all() -> None:
    for front in list(_living):
        front.close()
