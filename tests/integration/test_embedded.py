"""The embedded PostgreSQL with real client processes that start, exit and are killed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg2
import pytest
from flask.cli import FlaskGroup

from project import embedded
from project.database import remaining_seconds
from project.embedded import EmbeddedPostgres, EmbeddedPostgresError, data_directory, watcher
from tests.conftest import MakeApp

pytestmark = pytest.mark.chaos

BIN_DIR = os.environ.get("TEST_POSTGRES_BIN", "")
PATIENCE = 120.0  # seconds; far more than any step takes

# Imports the package alone: a client of the database need not load the whole service.
USER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from embedded import ensure_running
bin_dir = Path(sys.argv[3]) if sys.argv[3] else None
print(ensure_running(Path(sys.argv[2]), bin_dir=bin_dir), flush=True)
sys.stdin.read()
"""


WATCHING_USER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import embedded
embedded.WATCH_EVERY_S = 0.1
server = embedded.EmbeddedPostgres(Path(sys.argv[2]))
options = server.start()
server.keep_watched()
print("postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**options), flush=True)
sys.stdin.read()
"""


class User:
    """A process that uses the server until its input is closed."""

    def __init__(self, root: Path, environment: dict[str, str] | None = None, program: str = USER) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, Path(embedded.__file__).parents[1], root, BIN_DIR],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def url(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def leave(self) -> str:
        """End the process and return its error output."""
        return self.process.communicate(timeout=PATIENCE)[1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)


Start = Callable[..., User]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A directory for a server; paths may have spaces."""
    root = tmp_path / "our own data" / "postgres"
    yield root
    if home(root) != root:
        shutil.rmtree(home(root))


@pytest.fixture
def start(root: Path) -> Iterator[Start]:
    """Starts clients of the server in `root`; all have ended after the test."""
    users: list[User] = []

    def start_user(environment: dict[str, str] | None = None, program: str = USER) -> User:
        users.append(User(root, environment, program))
        return users[-1]

    yield start_user
    for user in users:
        user.leave()
    eventually(lambda: not watchers(root))
    assert not processes(bytes(home(root) / "data")), "the server still runs"


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def ask(url: str, statement: str) -> Any:
    """Return the first column of the first row of the answer."""
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def answers(url: str) -> bool:
    try:
        return ask(url, "select true") is True
    except psycopg2.OperationalError:
        return False


def watchers(root: Path) -> list[int]:
    """Return the pids of the watchers of the server in `root`."""
    return processes(bytes(watcher.PROGRAM), bytes(root))


def processes(*wanted: bytes) -> list[int]:
    """Return the pids of processes that were started with all of these arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if set(wanted) <= set(arguments):
            found.append(int(process.name))
    return found


def kill_watcher(root: Path) -> None:
    (watcher,) = watchers(root)
    os.kill(watcher, signal.SIGKILL)
    eventually(lambda: not watchers(root))


def server(root: Path) -> int:
    """Return the pid of the server in `root`, or 0."""
    try:
        return int((home(root) / "data" / "postmaster.pid").read_text().split()[0])
    except (FileNotFoundError, IndexError):
        return 0


def home(root: Path) -> Path:
    location = root / "location"
    return Path(location.read_text()) if location.exists() else root


def test_a_cold_start_creates_a_database(start: Start) -> None:
    url = start().url()

    assert url.startswith("postgresql://useradd:")
    assert ask(url, "select current_database()") == "useradd"


def test_the_database_folds_case_in_all_languages_and_uses_utc(start: Start) -> None:
    url = start().url()

    assert ask(url, "select lower('ÄÖЖ')") == "äöж"
    assert ask(url, "show timezone") == "UTC"


def test_a_second_process_shares_the_server(start: Start) -> None:
    first, second = start().url(), start().url()

    assert first == second


def test_the_password_is_required_and_readable_only_by_its_owner(start: Start, root: Path) -> None:
    url = start().url()
    password = home(root) / "password"

    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(url.replace(password.read_text(), "guessed"))

    assert password.stat().st_mode & 0o077 == 0


def test_data_survive_a_restart_of_the_server(start: Start, root: Path) -> None:
    first = start()
    url = first.url()
    ask(url, "create table kept as select 42 as answer")
    first.leave()
    eventually(lambda: not watchers(root))

    again = start().url()

    assert again == url
    assert ask(again, "select answer from kept") == 42


def test_the_server_runs_while_a_client_is_left(start: Start, root: Path) -> None:
    first, second = start(), start()
    first.url()
    url = second.url()
    pid = server(root)

    first.leave()

    assert answers(url)
    assert server(root) == pid


def test_an_empty_environment_is_sufficient(start: Start) -> None:
    url = start({}).url()

    assert answers(url)


def test_another_port_is_used_if_the_former_one_is_taken(start: Start, root: Path) -> None:
    first = start()
    old = first.url()
    first.leave()
    eventually(lambda: not watchers(root))

    with closing(socket.create_server(("127.0.0.1", int((home(root) / "port").read_text())))):
        new = start().url()

    assert new != old
    assert answers(new)


def test_data_of_another_major_version_is_refused(start: Start, root: Path) -> None:
    first = start()
    first.url()
    first.leave()
    eventually(lambda: not watchers(root))
    (home(root) / "data" / "PG_VERSION").write_text("9\n")

    message = start().leave()

    assert "was made by PostgreSQL 9" in message


def test_without_the_wheel_the_error_names_both_remedies(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_directory, "find_spec", lambda name: None)

    with pytest.raises(EmbeddedPostgresError, match=r"DATABASE_URL .* or use a platform"):
        embedded.ensure_running(root)


def test_without_disk_space_nothing_is_created(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))

    with pytest.raises(EmbeddedPostgresError, match="Not enough disk space"):
        embedded.ensure_running(root)

    assert not list(root.glob("data*"))


def test_a_root_that_is_not_a_directory_is_refused(root: Path) -> None:
    root.parent.mkdir()
    root.write_text("a file")

    with pytest.raises(EmbeddedPostgresError, match="File exists"):
        embedded.ensure_running(root)


@pytest.mark.chaos
def test_concurrent_cold_starts_create_one_server(start: Start, root: Path) -> None:
    users = [start() for _ in range(6)]

    urls = {user.url() for user in users}

    assert len(urls) == 1
    assert answers(*urls)
    assert len(watchers(root)) == 1


@pytest.mark.chaos
def test_killing_the_last_client_stops_the_server_cleanly(start: Start, root: Path) -> None:
    user = start()
    url = user.url()

    user.kill()
    eventually(lambda: not watchers(root))

    assert not answers(url)
    assert "database system is shut down" in (root / "postgres.log").read_text()


@pytest.mark.chaos
def test_a_killed_server_is_restarted_at_the_same_url_with_its_rows(start: Start, root: Path) -> None:
    url = start().url()
    ask(url, "create table kept as select 42 as answer")
    killed = server(root)

    os.kill(killed, signal.SIGKILL)
    eventually(lambda: server(root) != killed and answers(url))

    assert ask(url, "select answer from kept") == 42


@pytest.mark.chaos
def test_a_server_survives_its_watcher_and_is_adopted_by_the_next_process(start: Start, root: Path) -> None:
    first = start()
    url = first.url()
    pid = server(root)
    kill_watcher(root)

    second = start()

    assert second.url() == url
    assert server(root) == pid
    first.leave()
    second.leave()
    eventually(lambda: not watchers(root))
    assert not answers(url)


@pytest.mark.chaos
def test_a_killed_adopted_server_is_restarted(start: Start, root: Path) -> None:
    start().url()
    kill_watcher(root)
    url = start().url()
    killed = server(root)

    os.kill(killed, signal.SIGKILL)

    eventually(lambda: server(root) != killed and answers(url))


@pytest.mark.chaos
def test_a_pid_file_with_the_pid_of_another_process_does_not_prevent_the_start(start: Start, root: Path) -> None:
    user = start()
    url = user.url()
    kill_watcher(root)
    os.kill(server(root), signal.SIGKILL)
    user.kill()
    eventually(lambda: not watchers(root) and not answers(url))
    pid_file = home(root) / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines(keepends=True)
    pid_file.write_text("".join([f"{os.getpid()}\n", *lines[1:]]))  # as after a container restart

    again = start().url()

    assert answers(again)


@pytest.mark.chaos
def test_signals_for_the_service_do_not_stop_the_server(start: Start, root: Path) -> None:
    url = start().url()
    (watcher,) = watchers(root)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(watcher, number)

    assert answers(url)
    assert watchers(root) == [watcher]


@pytest.mark.chaos
def test_a_server_that_cannot_start_is_reported_with_its_log(start: Start, root: Path) -> None:
    first = start()
    first.url()
    first.leave()
    eventually(lambda: not watchers(root))
    (home(root) / "data" / "global" / "pg_control").unlink()

    message = start().leave()

    assert "does not start" in message
    assert "pg_control" in message


@pytest.mark.chaos
def test_root_without_user_namespaces_runs_the_server_as_nobody_even_in_private_directories(
    start: Start, root: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\nexit 1\n")
    refusing.chmod(0o755)
    url = start(os.environ | {"PATH": f"{tmp_path}:{os.defpath}"}).url()

    owner = (home(root) / "data").stat().st_uid

    assert answers(url)
    assert owner == (data_directory.NOBODY if os.geteuid() == 0 else os.geteuid())


@pytest.mark.chaos
def test_a_serving_process_replaces_a_killed_watcher(start: Start, root: Path) -> None:
    """F63."""
    url = start(program=WATCHING_USER).url()
    ask(url, "create table kept as select 42 as answer")
    killed: list[int] = []
    for _ in range(2):
        killed.extend(watchers(root))
        os.kill(killed[-1], signal.SIGKILL)
        eventually(lambda: len(set(watchers(root)) - set(killed)) == 1)
    former = server(root)

    os.kill(former, signal.SIGKILL)

    eventually(lambda: server(root) != former and answers(url))
    assert ask(url, "select answer from kept") == 42


@pytest.fixture
def frozen(start: Start, root: Path) -> Iterator[Path]:
    """The root of a server that runs but does not respond."""
    start().url()
    os.kill(server(root), signal.SIGSTOP)
    yield root
    os.kill(server(root), signal.SIGCONT)


@pytest.mark.chaos
@pytest.mark.parametrize("command", ["--help", "spool status", "users create-admin --help"])
def test_commands_without_database_ignore_a_frozen_server(frozen: Path, command: str) -> None:
    """F62."""
    done = flask(frozen.parent, command)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.chaos
@pytest.mark.skipif("TEST_POSTGRES_BIN" in os.environ, reason="commands use the server of the wheel only")
@pytest.mark.parametrize(
    ("command", "message"), [("doctor", "PostgreSQL is unavailable"), ("api-keys list", "unavailable")]
)
def test_commands_with_database_give_up_on_a_frozen_server(frozen: Path, command: str, message: str) -> None:
    """F62."""
    done = flask(frozen.parent, command)

    assert done.returncode == 1
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.chaos
def test_a_frozen_server_without_watcher_is_reported(start: Start, root: Path, frozen: Path) -> None:
    kill_watcher(root)

    message = start().leave()

    assert "EmbeddedPostgresError: The embedded PostgreSQL" in message


@pytest.mark.chaos
def test_a_server_that_froze_while_it_had_no_watcher_is_used_again_when_it_answers(
    start: Start, root: Path, frozen: Path
) -> None:
    kill_watcher(root)
    start().leave()
    os.kill(server(root), signal.SIGCONT)

    url = start().url()

    assert answers(url)


@pytest.mark.chaos
def test_commands_without_database_create_none(root: Path) -> None:
    flask(root.parent, "spool status")

    assert not root.exists()


@pytest.mark.chaos
def test_the_first_command_creates_the_database(root: Path) -> None:
    done = flask(root.parent, "db upgrade")
    listed = flask(root.parent, "api-keys list")
    eventually(lambda: not watchers(root))

    assert done.returncode == 0, done.stderr
    assert (listed.returncode, listed.stderr) == (0, "")


def flask(data_dir: Path, command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the service in a directory, within a time limit."""
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(data_dir), "DATABASE_URL": "", "LOG_FORMAT": "text"}
    arguments = [sys.executable, "-m", "flask", "--app", "wsgi", *command.split()]
    return subprocess.run(
        arguments, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )


def test_migrations_wait_for_the_first_start_longer_than_for_a_connection(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, deadlines = make_app(database_url="", data_dir=tmp_path), []

    def start(_: EmbeddedPostgres) -> None:
        deadlines.append(remaining_seconds())
        raise EmbeddedPostgresError("PostgreSQL is not installed")

    monkeypatch.setattr(EmbeddedPostgres, "start", start)
    result = app.test_cli_runner().invoke(FlaskGroup(create_app=lambda: app, load_dotenv=False), ["db", "upgrade"])

    assert deadlines == [None]
    assert result.exit_code == 1
