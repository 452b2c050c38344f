"""nginx and HAProxy with the configuration of `deploy/` in front of two instances.

They use other ports and files.
"""

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
from tests.chaos.load import Client, Endpoint
from tests.chaos.processes import HOST, eventually
from tests.chaos.service import Service

DEPLOY = Path(__file__).parents[2] / "deploy"
PAGES = ("503.html", "503.json")
CLIENT_ADDRESS = "127.0.0.2"
"""Source address of clients, different from the address of the proxy."""
_instances: "weakref.WeakSet[ReverseProxy]" = weakref.WeakSet()


def program(name: str) -> str:
    """Return the path of a program that must be installed."""
    found = processes.find_program(name)
    assert found, f"{name} is not installed: as root, `./run test` installs it"
    return found


class ReverseProxy:
    """A reverse proxy with HTTPS on `port`, HTTP on `plain_port`.

    Its certificate is self-signed.
    """

    host = HOST

    def __init__(self, instances: Sequence[Service]) -> None:
        self.port, self.plain_port = processes.free_port(), processes.free_port()
        self.instances = list(instances)
        self.folder = Path(tempfile.mkdtemp(prefix="reverse-proxy-"))
        self.log = self.folder / "log"
        for page in PAGES:
            shutil.copy(DEPLOY / page, self.folder)
        _make_certificate(self.folder)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(), env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        _instances.add(self)
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
        """Return a connection that trusts only this proxy's certificate."""
        context = ssl.create_default_context(cafile=str(self.folder / "certificate.pem"))
        return http.client.HTTPSConnection(HOST, self.port, context=context, timeout=15, source_address=(source, 0))

    def get(self, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        """Return the response to a GET and its body."""
        connection = self.open()
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def await_ready(self) -> None:
        """Wait until the proxy uses every instance."""
        eventually(self._uses_all, 60, "the proxy does not use every instance")

    def _uses_all(self) -> bool:
        return (
            all(instance.get("/readyz") == 200 for instance in self.instances) and self.get("/livez")[0].status == 200
        )

    def close(self) -> None:
        """Stop the process and remove its files."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                processes.kill(self._process.pid)
        shutil.rmtree(self.folder, ignore_errors=True)
        _instances.discard(self)


class Haproxy(ReverseProxy):
    """HAProxy with deploy/haproxy.cfg, configured by environment variables."""

    def _command(self) -> list[str]:
        text = (DEPLOY / "haproxy.cfg").read_text()
        if os.geteuid() != 0:  # only root can change the user
            text = re.sub(r"^    (user|group) haproxy$", "", text, flags=re.MULTILINE)
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(text)
        return [program("haproxy"), "-db", "-f", str(configuration)]

    def _environment(self) -> dict[str, str]:
        first, second = (f"{HOST}:{instance.port}" for instance in self.instances)
        return super()._environment() | {
            "USERADD_1": first,
            "USERADD_2": second,
            "BIND_HTTP": f"{HOST}:{self.plain_port},::1:{self.plain_port}",
            "BIND_HTTPS": f"{HOST}:{self.port},::1:{self.port}",
            "CERTIFICATES": str(self.folder / "both.pem"),
            "PAGES": str(self.folder),
            "ADMIN_SOCKET": str(self._admin_socket),
        }

    def _listens(self) -> bool:
        """Return whether HAProxy listens. It opens its ports before its admin socket."""
        return super()._listens() and self._admin_socket.exists()

    @property
    def _admin_socket(self) -> Path:
        return self.folder / "admin.sock"

    def _uses_all(self) -> bool:
        """Return whether HAProxy's health checks report every instance as UP."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self._admin_socket))
            admin.sendall(b"show stat\n")
            output = admin.makefile().read()
        states = [
            line.split(",")[17] for line in output.splitlines() if line.startswith("useradd,") and "BACKEND" not in line
        ]
        return states == ["UP"] * len(self.instances)


class Nginx(ReverseProxy):
    """nginx with deploy/nginx.conf, whose ports and file paths are replaced."""

    def _command(self) -> list[str]:
        first, second = (f"{HOST}:{instance.port}" for instance in self.instances)
        text = (DEPLOY / "nginx.conf").read_text()
        for original, replacement in {
            "127.0.0.1:8000": first,
            "127.0.0.1:8001": second,
            "listen 80;": f"listen {HOST}:{self.plain_port};",
            "listen 443 ": f"listen {HOST}:{self.port} ",
            "listen [::]:80;": f"listen [::1]:{self.plain_port};",
            "listen [::]:443 ": f"listen [::1]:{self.port} ",
            "/etc/nginx/useradd": str(self.folder),
        }.items():
            assert original in text
            text = text.replace(original, replacement)
        (self.folder / "useradd.conf").write_text(text)
        temporary = "".join(
            f"{name}_temp_path {self.folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        self.folder.chmod(0o755)  # workers run as another user if started by root
        main = self.folder / "nginx.conf"
        main.write_text(
            f"daemon off;\nworker_processes 2;\npid {self.folder}/pid;\nerror_log stderr;\n"
            f"events {{ worker_connections 1024; }}\n"
            f"http {{\n{temporary}access_log off;\ninclude {self.folder}/useradd.conf;\n}}\n"
        )
        return [program("nginx"), "-p", str(self.folder), "-e", "stderr", "-c", str(main)]


class ProxyClient(Client):
    """A client that connects to the proxy by HTTPS from CLIENT_ADDRESS."""

    def __init__(self, reverse_proxy: Endpoint) -> None:
        super().__init__(reverse_proxy)
        assert isinstance(reverse_proxy, ReverseProxy)
        self._front = reverse_proxy

    def _new_connection(self) -> http.client.HTTPConnection:
        return self._front.open(source=CLIENT_ADDRESS)


def _make_certificate(folder: Path) -> None:
    """Create a certificate for HOST, its key, and a file with both."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=useradd", "-addext", f"subjectAltName=IP:{HOST}", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    (folder / "both.pem").write_bytes(certificate.read_bytes() + key.read_bytes())


@atexit.register
def _close_all() -> None:
    for reverse_proxy in list(_instances):
        reverse_proxy.close()
