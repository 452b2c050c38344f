"""PostgreSQL servers that tests kill, freeze, restart and fail over, on fixed ports.

A server is a direct child of the test process: if PID 1 reaps no orphans, a killed server would stay a zombie,
and the PID in its lock file would block the next start. Programs, user, password and settings are those of
project/embedded.
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

from project.embedded.cluster import SETTINGS, create_cluster
from project.embedded.data_directory import (
    DATABASE_NAME,
    DataDirectory,
    change_owner,
    prepare_data_directory,
    wheel_programs,
)
from tests.chaos import processes
from tests.chaos.disks import on_small_disk, path_seen_by
from tests.chaos.processes import HOST, eventually

SMALL_SETTINGS = {
    "shared_buffers": "32MB",
    "max_connections": "100",
    "client_connection_check_interval": "1s",
    "restart_after_crash": "on",
}
APPLICATION = "chaos"
"""The application_name of sessions that tests open."""
Rows = list[tuple[Any, ...]]

_instances: "weakref.WeakSet[Postgres]" = weakref.WeakSet()


class Postgres:
    """A server with a database `useradd`.

    The server is new, a copy of a stopped `template`, or a standby of a `primary`.
    """

    def __init__(self, template: "Postgres | None" = None, *, primary: "Postgres | None" = None) -> None:
        self.port = processes.free_port()
        self.data_directory: DataDirectory = prepare_data_directory(
            Path(tempfile.mkdtemp(prefix="chaos-postgres-")), _programs(template or primary)
        )
        self._server: subprocess.Popen[bytes] | None = None
        self._prefix: list[str] = []
        self._is_new = not (template or primary)
        _instances.add(self)
        if origin := template or primary:
            shutil.copy2(origin.data_directory.location / "password", self.data_directory.location)
        if template:
            shutil.copytree(template.data_directory.data, self.data_directory.data, symlinks=True)
        elif primary:
            self._follow(primary)
        else:
            create_cluster(self.data_directory)

    def _follow(self, primary: "Postgres") -> None:
        self.data_directory.data.mkdir(mode=0o700)
        change_owner(self.data_directory.data, self.data_directory.identity.uid or 0)
        options = [
            "-R",
            "-D",
            str(self.data_directory.data),
            "-X",
            "stream",
            "--checkpoint=fast",
            "-d",
            primary.url("postgres"),
        ]
        with self.log.open("ab") as log:
            code = _run(self.data_directory, "pg_basebackup", options, log).wait(timeout=60)
        assert code == 0, self.log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """PID of the postmaster."""
        assert self._server is not None, "this PostgreSQL was not started"
        return self._server.pid

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.data_directory.log

    def url(self, database: str = DATABASE_NAME, port: int | None = None, host: str = HOST) -> str:
        """Return the URL of a database, on another `port` or `host` to go through a proxy."""
        password = (self.data_directory.location / "password").read_text()
        return f"postgresql://{DATABASE_NAME}:{password}@{host}:{port or self.port}/{database}"

    def move_to_small_disk(self, mib: int) -> Path:
        """Restart with the tables on a file system of `mib` MiB; return its path.

        The file system vanishes with the server.
        """
        self.stop()
        folder = self.data_directory.location / "small"
        folder.mkdir()
        uid = self.data_directory.identity.uid
        self._prefix = on_small_disk(folder, mib, uid)
        self.start()
        self.execute(f"create tablespace small location '{folder}'", database="postgres")
        self.execute(f'alter database "{DATABASE_NAME}" set tablespace small', database="postgres")
        return path_seen_by(self.pid, folder)

    def start(self) -> "Postgres":
        """Start the server and wait until it accepts connections."""
        previous_pid = "" if self._server is None else str(self._server.pid)
        change_owner(self.data_directory.data, self.data_directory.identity.uid or 0)
        settings = [f"-c{name}={value}" for name, value in (SETTINGS | SMALL_SETTINGS).items()]
        with self.log.open("ab") as log:
            options = ["-D", str(self.data_directory.data), "-p", str(self.port), *settings]
            self._server = _run(self.data_directory, "postgres", options, log, previous_pid, self._prefix)
        self.wait_ready()
        if self._is_new:
            self.execute(f'create database "{DATABASE_NAME}"', database="postgres")
            self._is_new = False
        return self

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until the server accepts connections."""
        eventually(self._answers, seconds, f"PostgreSQL does not respond, see {self.log}")

    def _answers(self) -> bool:
        assert self.is_running(), f"PostgreSQL ended:\n{self.log.read_text(errors='replace')[-2000:]}"
        try:
            return self.execute("select 1", database="postgres") == [(1,)]
        except psycopg2.OperationalError:
            return False

    def is_running(self) -> bool:
        """Return whether the postmaster exists, frozen or not."""
        return self._server is not None and self._server.poll() is None

    def kill(self) -> None:
        """SIGKILL the postmaster and all its children."""
        assert self._server is not None
        processes.kill(self.pid)
        self._server.wait()

    def stop(self, mode: signal.Signals = signal.SIGINT) -> None:
        """Shut down in the mode "fast" (SIGINT), "smart" (SIGTERM) or "immediate" (SIGQUIT)."""
        if self._server is not None and self.is_running():
            self.thaw()
            self._server.send_signal(mode)
            self._server.wait(timeout=30)

    def restart(self) -> float:
        """Stop the server if it runs and start it on the same port; return the seconds."""
        began = time.monotonic()
        self.stop()
        self.start()
        return time.monotonic() - began

    def freeze(self) -> None:
        """SIGSTOP all server processes: connections stay open without a response."""
        processes.freeze(self.pid)

    def thaw(self) -> None:
        """Send SIGCONT to all server processes."""
        processes.send_signal(signal.SIGCONT, [*processes.descendants(self.pid), self.pid])

    def backends(self, application: str = "useradd") -> list[int]:
        """Return the PIDs of the backends that serve an application, the oldest first."""
        rows = self.execute(
            "select pid from pg_stat_activity where backend_type = 'client backend' and application_name = %s"
            " order by backend_start",
            [application],
        )
        return [pid for (pid,) in rows]

    def freeze_backend(self, pid: int | None = None) -> int:
        """SIGSTOP one backend, by default the newest of the service; return its PID."""
        pid = self._pick_backend(pid)
        processes.freeze(pid)
        return pid

    def thaw_backend(self, pid: int) -> None:
        """Send SIGCONT to a backend."""
        processes.send_signal(signal.SIGCONT, [pid])

    def kill_one_backend(self, pid: int | None = None) -> int:
        """SIGKILL one backend and return its PID.

        The server ends all sessions and recovers as after a crash.
        """
        pid = self._pick_backend(pid)
        processes.send_signal(signal.SIGKILL, [pid])
        return pid

    def crash(self) -> float:
        """SIGKILL one backend, wait until the server has recovered, and return the seconds."""
        before, began = self._times_ready(), time.monotonic()
        self.kill_one_backend()
        eventually(lambda: self._times_ready() > before, 60, "PostgreSQL did not recover")
        return time.monotonic() - began

    def _times_ready(self) -> int:
        return self.log.read_text(errors="replace").count("database system is ready to accept connections")

    def _pick_backend(self, pid: int | None) -> int:
        if pid is None:
            return eventually(self.backends, 5, "the service has no session")[-1]
        return pid

    def connect(self, database: str = DATABASE_NAME, port: int | None = None) -> "psycopg2.extensions.connection":
        """Open a session in autocommit mode."""
        connection = psycopg2.connect(self.url(database, port), connect_timeout=3, application_name=APPLICATION)
        connection.autocommit = True
        return connection

    def execute(self, sql: str, parameters: object = None, *, database: str = DATABASE_NAME) -> Rows:
        """Run one statement in a new session and return its rows, if any."""
        with closing(self.connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def change_setting(self, name: str, value: str) -> None:
        """Change a setting, also for open sessions, and wait until it applies."""
        self.execute(f"alter system set {name} = '{value}'")
        self.execute("select pg_reload_conf()")
        eventually(lambda: self.execute(f"show {name}") == [(value,)], 5, f"{name} did not become {value}")

    def reset_settings(self) -> None:
        """Undo all changes of change_setting()."""
        self.execute("alter system reset all")
        self.execute("select pg_reload_conf()")

    def start_standby(self) -> "Postgres":
        """Start a synchronous standby: every COMMIT of this server waits for it."""
        standby = Postgres(primary=self).start()
        self.change_setting("synchronous_standby_names", "*")
        states = "select sync_state from pg_stat_replication"
        eventually(lambda: self.execute(states) == [("sync",)], 20, "the standby does not replicate")
        return standby

    def promote(self) -> None:
        """Promote this standby and wait until it accepts writes."""
        assert self.execute("select pg_promote(true, 30)") == [(True,)]

    def close(self) -> None:
        """Stop the server, whatever its state, and remove its files."""
        if self.is_running():
            self.thaw()
            processes.send_signal(signal.SIGQUIT, [self.pid])
            try:
                processes.eventually(lambda: not self.is_running(), 5, "still running")
            except AssertionError:
                self.kill()
        for folder in {self.data_directory.location, self.data_directory.root}:
            shutil.rmtree(folder, ignore_errors=True)
        _instances.discard(self)


@atexit.register
def _close_all() -> None:
    for server in list(_instances):
        server.close()


def _programs(origin: Postgres | None) -> Path:
    if origin:
        return origin.data_directory.programs
    directory = os.environ.get("TEST_POSTGRES_BIN")
    return (Path(directory) if directory else wheel_programs()).resolve()


def _run(
    data_directory: DataDirectory,
    program: str,
    options: list[str],
    output: Any,
    previous_pid: str = "",
    prefix: Sequence[str] = (),
) -> "subprocess.Popen[bytes]":
    """Start a program of PostgreSQL as its user, in a session that Ctrl-C does not reach.

    `prefix` is a command prefix that runs as the current user.
    """
    uid = data_directory.identity.uid
    set_user = [] if uid is None else ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "TZ": "UTC",
        "LD_LIBRARY_PATH": f"{data_directory.programs.parents[1]}.libs",
    }
    return subprocess.Popen(
        [*prefix, *set_user, *data_directory.identity.prefix, str(data_directory.programs / program), *options],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=data_directory.location,
        env=environment | ({"PG_GRANDPARENT_PID": previous_pid} if previous_pid else {}),
        start_new_session=True,
    )
