"""A PostgreSQL to be killed, frozen, restarted and failed over: a direct child of the tests, on a fixed port.

A direct child, because a killed orphan stays a zombie where pid 1 reaps nobody, and the pid in its lock file then
blocks the next start. Programs, user, password and settings are those of the embedded one (project/embedded).
"""

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2

from project.embedded.cluster import SETTINGS, initialise
from project.embedded.data_directory import NAME, DataDirectory, change_owner, prepare_data_directory, wheel_programs
from tests.chaos import processes
from tests.chaos.disks import on_small_disk, seen_by
from tests.chaos.processes import HOST, eventually

SMALL = {
    "shared_buffers": "32MB",
    "max_connections": "100",
    "client_connection_check_interval": "1s",
    "restart_after_crash": "on",
}
APPLICATION = "chaos"
"""Name of the tests' own sessions in pg_stat_activity."""
Rows = list[tuple[Any, ...]]

_living: "weakref.WeakSet[Postgres]" = weakref.WeakSet()


class Postgres:
    """One server with a database `useradd`: new, a copy of a stopped `template`, or a standby of a `primary`."""

    def __init__(self, template: "Postgres | None" = None, *, primary: "Postgres | None" = None) -> None:
        self.port = processes.free_port()
        self.place: DataDirectory = prepare_data_directory(
            Path(tempfile.mkdtemp(prefix="chaos-postgres-")), _programs(template or primary)
        )
        self._server: subprocess.Popen[bytes] | None = None
        self._prefix: list[str] = []
        self._is_new = not (template or primary)
        _living.add(self)
        if origin := template or primary:
            shutil.copy2(origin.place.location / "password", self.place.location)
        if template:
            shutil.copytree(template.place.data, self.place.data, symlinks=True)
        elif primary:
            self._follow(primary)
        else:
            initialise(self.place)

    def _follow(self, primary: "Postgres") -> None:
        self.place.data.mkdir(mode=0o700)
        change_owner(self.place.data, self.place.identity.uid or 0)
        options = ["-R", "-D", str(self.place.data), "-X", "stream", "--checkpoint=fast", "-d", primary.url("postgres")]
        with self.log.open("ab") as log:
            code = _run(self.place, "pg_basebackup", options, log).wait(timeout=60)
        assert code == 0, self.log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The postmaster."""
        assert self._server is not None, "this PostgreSQL was not started"
        return self._server.pid

    @property
    def log(self) -> Path:
        """What the server said."""
        return self.place.log

    def url(self, database: str = NAME, port: int | None = None, host: str = HOST) -> str:
        """Return the address of a database, by way of `port` of `host` when something stands in between."""
        password = (self.place.location / "password").read_text()
        return f"postgresql://{NAME}:{password}@{host}:{port or self.port}/{database}"

    def move_to_small_disk(self, mib: int) -> Path:
        """Start anew with the tables on a disk of their own, of so many MiB; return what to fill. It ends with the
        server.
        """
        self.stop()
        folder = self.place.location / "small"
        folder.mkdir()
        uid = self.place.identity.uid
        self._prefix = on_small_disk(folder, mib, uid)
        self.start()
        self.execute(f"create tablespace small location '{folder}'", database="postgres")
        self.execute(f'alter database "{NAME}" set tablespace small', database="postgres")
        return seen_by(self.pid, folder)

    def start(self) -> "Postgres":
        """Start the server and wait until it answers."""
        former = "" if self._server is None else str(self._server.pid)
        change_owner(self.place.data, self.place.identity.uid or 0)
        settings = [f"-c{name}={value}" for name, value in (SETTINGS | SMALL).items()]
        with self.log.open("ab") as log:
            options = ["-D", str(self.place.data), "-p", str(self.port), *settings]
            self._server = _run(self.place, "postgres", options, log, former, self._prefix)
        self.wait_ready()
        if self._is_new:
            self.execute(f'create database "{NAME}"', database="postgres")
            self._is_new = False
        return self

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until the server takes connections."""
        eventually(self._answers, seconds, f"PostgreSQL does not answer, see {self.log}")

    def _answers(self) -> bool:
        assert self.is_running(), f"PostgreSQL ended:\n{self.log.read_text(errors='replace')[-2000:]}"
        try:
            return self.execute("select 1", database="postgres") == [(1,)]
        except psycopg2.OperationalError:
            return False

    def is_running(self) -> bool:
        """Tell whether the postmaster lives, frozen or not."""
        return self._server is not None and self._server.poll() is None

    def kill(self) -> None:
        """SIGKILL the postmaster and whoever it leaves behind."""
        assert self._server is not None
        processes.kill(self.pid)
        self._server.wait()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Shut down fast: sessions end, everything is written (SIGTERM waits for clients, SIGQUIT for nothing)."""
        if self._server is not None and self.is_running():
            self.thaw()
            self._server.send_signal(how)
            self._server.wait(timeout=30)

    def restart(self) -> float:
        """Stop fast, if it runs, and start again on the same port; return how many seconds that took."""
        began = time.monotonic()
        self.stop()
        self.start()
        return time.monotonic() - began

    def freeze(self) -> None:
        """SIGSTOP everything: connections stay open and nobody answers."""
        processes.freeze(self.pid)

    def thaw(self) -> None:
        """Let everything go on."""
        processes.send(signal.SIGCONT, [*processes.descendants(self.pid), self.pid])

    def backends(self, application: str = "useradd") -> list[int]:
        """Return the server processes that serve the sessions of an application, the oldest first."""
        rows = self.execute(
            "select pid from pg_stat_activity where backend_type = 'client backend' and application_name = %s"
            " order by backend_start",
            [application],
        )
        return [pid for (pid,) in rows]

    def freeze_backend(self, pid: int | None = None) -> int:
        """SIGSTOP one backend, by default the youngest of the service; return which."""
        pid = self._pick(pid)
        processes.freeze(pid)
        return pid

    def thaw_backend(self, pid: int) -> None:
        """Let a backend go on."""
        processes.send(signal.SIGCONT, [pid])

    def kill_one_backend(self, pid: int | None = None) -> int:
        """SIGKILL one backend: the server ends all sessions and recovers as after a crash. Return which."""
        pid = self._pick(pid)
        processes.send(signal.SIGKILL, [pid])
        return pid

    def crash(self) -> float:
        """SIGKILL one backend and wait until the server has recovered; return how many seconds that took."""
        before, began = self._times_ready(), time.monotonic()
        self.kill_one_backend()
        eventually(lambda: self._times_ready() > before, 60, "PostgreSQL does not recover")
        return time.monotonic() - began

    def _times_ready(self) -> int:
        return self.log.read_text(errors="replace").count("database system is ready to accept connections")

    def _pick(self, pid: int | None) -> int:
        if pid is None:
            return eventually(self.backends, 5, "the service has no session")[-1]
        return pid

    def connect(self, database: str = NAME, port: int | None = None) -> "psycopg2.extensions.connection":
        """Open a plain session that commits each statement."""
        connection = psycopg2.connect(self.url(database, port), connect_timeout=3, application_name=APPLICATION)
        connection.autocommit = True
        return connection

    def execute(self, sql: str, parameters: object = None, *, database: str = NAME) -> Rows:
        """Run one statement in a session of its own and return the rows, if it gives any."""
        with closing(self.connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def set(self, name: str, value: str) -> None:
        """Change a setting of the running server; it is in force at once, also for open sessions."""
        self.execute(f"alter system set {name} = '{value}'")
        self.execute("select pg_reload_conf()")
        eventually(lambda: self.execute(f"show {name}") == [(value,)], 5, f"{name} did not become {value}")

    def reset_settings(self) -> None:
        """Take back what set() changed."""
        self.execute("alter system reset all")
        self.execute("select pg_reload_conf()")

    def standby(self) -> "Postgres":
        """Return a running copy that every COMMIT of this server waits for from now on."""
        standby = Postgres(primary=self).start()
        self.set("synchronous_standby_names", "*")
        states = "select sync_state from pg_stat_replication"
        eventually(lambda: self.execute(states) == [("sync",)], 20, "the standby does not follow")
        return standby

    def promote(self) -> None:
        """Make this standby a primary and wait until it takes writes."""
        assert self.execute("select pg_promote(true, 30)") == [(True,)]

    def close(self) -> None:
        """End the server, whatever state it is in, and remove what it kept."""
        if self.is_running():
            self.thaw()
            processes.send(signal.SIGQUIT, [self.pid])
            try:
                processes.eventually(lambda: not self.is_running(), 5, "still there")
            except AssertionError:
                self.kill()
        for folder in {self.place.location, self.place.root}:
            shutil.rmtree(folder, ignore_errors=True)
        _living.discard(self)


@atexit.register
def _close_all() -> None:
    for server in list(_living):
        server.close()


def _programs(origin: Postgres | None) -> Path:
    if origin:
        return origin.place.programs
    chosen = os.environ.get("TEST_POSTGRES_BIN")
    return (Path(chosen) if chosen else wheel_programs()).resolve()


def _run(
    place: DataDirectory, program: str, options: list[str], output: Any, replaces: str = "", prefix: Sequence[str] = ()
) -> "subprocess.Popen[bytes]":
    """Run a server program as whom it has to be; a session of its own, so that Ctrl-C in the terminal is not for it.

    What stands before it, `prefix`, is run as whom we are.
    """
    uid = place.identity.uid
    become = [] if uid is None else ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "TZ": "UTC",
        "LD_LIBRARY_PATH": f"{place.programs.parents[1]}.libs",
    }
    return subprocess.Popen(
        [*prefix, *become, *place.identity.prefix, str(place.programs / program), *options],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=place.location,
        env=environment | ({"PG_GRANDPARENT_PID": replaces} if replaces else {}),
        start_new_session=True,
    )
