"""Starts that cannot succeed end with one line; an outage is reported in libpq's words."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace

import psycopg2
import pytest

from project.cli.greeting import EXAMPLES, terminal_language
from project.cli.startup import StartReports
from project.contract.schemas import user_add_schema
from project.runtime import Runtime
from project.spool import Spool, SpoolError
from tests.chaos.processes import HOST, free_port, started
from tests.conftest import ROOT, administer

pytestmark = pytest.mark.slow  # starts processes

SECRET = "0123456789abcdef" * 2
MakeDatabase = Callable[[str], str]


@pytest.fixture
def make_database(postgres_url: str) -> Iterator[MakeDatabase]:
    """Creates databases with options; returns their URLs."""
    server, _, prefix = postgres_url.rpartition("/")
    names: list[str] = []

    def make(options: str = "") -> str:
        names.append(f"{prefix}_start_{len(names)}")
        administer(postgres_url, f"create database {names[-1]} {options}")
        return f"{server}/{names[-1]}"

    yield make
    for name in names:
        administer(postgres_url, f"drop database {name} with (force)")


def environment(url: str, folder: Path, **settings: str) -> dict[str, str]:
    """Return the environment of an instance."""
    defaults = {"DATABASE_URL": url, "DATA_DIR": str(folder), "PASSWORD_SECRET": SECRET, "WORKERS": "1"}
    return {"PATH": os.environ["PATH"], "PORT": str(free_port()), **defaults, **settings}


def start(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Start an instance that must refuse to start."""
    command = [sys.executable, str(ROOT / "wsgi.py"), *arguments]
    return subprocess.run(
        command, env=environment(url, folder), cwd=folder, capture_output=True, text=True, timeout=120
    )


def serve(url: str, folder: Path, *arguments: str, seconds: float = 0, **settings: str) -> tuple[str, str]:
    """Start an instance on a terminal, stop it after its greeting; return greeting and log."""
    ours, theirs = pty.openpty()
    with started(
        [sys.executable, ROOT / "wsgi.py", *arguments],
        env=environment(url, folder, **settings),
        cwd=folder,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(theirs)
        greeting = _read_terminal(ours, until="-d '").replace("\r\n", "\n")
        time.sleep(seconds)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    os.close(ours)
    return greeting, errors


def assert_refused(result: subprocess.CompletedProcess[str], sentence: str) -> None:
    """Check that one line says why the service did not start."""
    assert result.returncode == 1, result.stderr
    assert result.stderr.splitlines()[0] == "useradd cannot start:", result.stderr
    [line] = result.stderr.splitlines()[1:]
    assert sentence in line
    assert result.stdout == ""


def test_a_disk_that_does_not_respond_prevents_the_start(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    thaw = threading.Event()
    monkeypatch.setattr("project.runtime.SPOOL_OPEN_S", 0.01)
    monkeypatch.setattr(Spool, "open", lambda _: thaw.wait(10))

    with pytest.raises(SpoolError, match="does not respond"):
        runtime.check_spool()
    thaw.set()


@pytest.mark.slow
@pytest.mark.parametrize(("encoding", "arguments"), [("LATIN1", ["--migrate"]), ("SQL_ASCII", [])])
def test_a_database_in_another_encoding_is_refused(
    make_database: MakeDatabase, tmp_path: Path, encoding: str, arguments: list[str]
) -> None:
    """F49."""
    url = make_database(f"encoding '{encoding}' locale 'C' template template0")

    assert_refused(start(url, tmp_path, *arguments), f"the encoding of the database is {encoding}: create the database")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "sentence", "arguments"),
    [
        ("create table users (id integer)", "users exist, but not from a migration of useradd", []),
        ("create table users (id integer)", "users exist, but not from a migration of useradd", ["--migrate"]),
        (
            "create table alembic_version (version_num text); insert into alembic_version values ('3f2a')",
            "alembic_version has revision 3f2a, which is not of useradd",
            ["--migrate"],
        ),
        ("create table alembic_version (at date); insert into alembic_version values (now())", "revision ?, which", []),
    ],
)
def test_a_database_of_another_application_is_refused(
    make_database: MakeDatabase, tmp_path: Path, statement: str, sentence: str, arguments: list[str]
) -> None:
    url = make_database("")
    administer(url, statement)

    assert_refused(start(url, tmp_path, *arguments), sentence)


@pytest.mark.slow
def test_a_role_without_rights_is_refused(make_database: MakeDatabase, tmp_path: Path) -> None:
    url = make_database("")
    name = url.rpartition("/")[2]
    administer(url, f"create role {name} login password 'x'; revoke all on schema public from public")
    try:
        scheme, _, address = url.partition("://")
        weak = f"{scheme}://{name}:x@{address.rpartition('@')[2]}"
        assert_refused(start(weak, tmp_path, "--migrate"), "the migration failed: ")
        serve(url, tmp_path, "--migrate")
        assert_refused(start(weak, tmp_path), f"role {name} cannot read and write all tables")
    finally:
        administer(url, f"drop owned by {name}; drop role {name}")


@pytest.mark.slow
def test_an_outage_is_named_before_the_greeting_and_once_a_minute_in_the_log(tmp_path: Path) -> None:
    """F73: the sentence is that of libpq, and retries do not repeat it."""
    url = f"postgresql://nobody@{HOST}:{free_port()}/nothing"

    output, errors = serve(url, tmp_path, "--migrate", seconds=5)

    assert output.startswith("\n  useradd has started, but: PostgreSQL is unavailable: ")
    assert errors.startswith(f"PostgreSQL is unavailable: {HOST}:")
    assert "Connection refused" in errors.splitlines()[0]
    assert [line for line in errors.splitlines() if '"ERROR"' in line] == []


def test_a_start_without_problems_greets_with_a_request_that_works(make_database: MakeDatabase, tmp_path: Path) -> None:
    output, errors = serve(make_database(""), tmp_path, "--migrate", LANG="ru_RU.UTF-8")

    assert output.startswith("\n  Сервис useradd запущен.\n")
    assert "/api/v1/useradd/" in output
    assert [line for line in errors.splitlines() if '"ERROR"' in line] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("nowhere.invalid", "no such host name. HOST must be an address of this machine"),
        ("a..b", "no such host name. HOST must be an address of this machine"),
        ("192.0.2.1", "Cannot assign requested address. HOST must be an address of this machine"),
        ("", "Address already in use. Choose another port"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, host: str, sentence: str) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, str(ROOT / "wsgi.py")]
        settings = environment("postgresql://nobody@127.0.0.1:1/x", tmp_path, HOST=host or HOST, PORT=port)
        result = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=120)

    assert result.returncode == 1
    assert result.stderr.startswith(f"useradd cannot listen on {host or HOST}:{port}: {sentence}")
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_elsewhere_than_on_a_terminal_the_greeting_is_a_line_of_the_log(
    make_database: MakeDatabase, tmp_path: Path
) -> None:
    settings = environment(make_database(""), tmp_path)
    with started(
        [sys.executable, ROOT / "wsgi.py", "--migrate"],
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        lines = [json.loads(line) for line in takewhile(lambda line: b'"ready"' not in line, process.stdout)]
        process.send_signal(signal.SIGTERM)
        lines += [json.loads(line) for line in process.stdout]

    assert lines[-1]["message"] == "stopped"


@pytest.mark.slow
def test_ctrl_c_ends_the_line_of_the_terminal(make_database: MakeDatabase, tmp_path: Path) -> None:
    """A terminal prints ^C, and the log continues on a new line."""
    ours, theirs = pty.openpty()
    with started(
        [sys.executable, ROOT / "wsgi.py", "--migrate"],
        env=environment(make_database(""), tmp_path),
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as process:
        os.close(theirs)
        text = _read_terminal(ours, until="worker started")
        process.send_signal(signal.SIGINT)
        text += _read_terminal(ours, until="no line of the log")
        assert process.wait(timeout=120) == 0
    os.close(ours)

    assert text.partition("\r\n\r\n")[2].splitlines()[-1].endswith("INFO project.server.supervisor: stopped")
    assert "Traceback" not in text


def _read_terminal(terminal: int, until: str) -> str:
    """Read up to a text or the end of output."""
    text = b""
    with suppress(OSError):  # EIO: nobody has the other end open any more
        while until.encode() not in text and (read := os.read(terminal, 4096)):
            text += read
    return text.decode()


@pytest.mark.slow
def test_flask_run_prints_its_address_and_uses_the_settings(make_database: MakeDatabase, tmp_path: Path) -> None:
    settings = environment(make_database(""), tmp_path)
    with started(
        [sys.executable, "-m", "flask", "run"],
        env=settings,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.kill()

    assert first == f" * http://127.0.0.1:{settings['PORT']}/ (press Ctrl-C to quit)\n"


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "ru_RU.UTF-8"}, "ru"),
        ({"LANG": "ru_RU.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        ({"LANG": "de_DE", "LC_MESSAGES": "en", "LC_ALL": "ru_RU.KOI8-R"}, "ru"),
        ({"LANG": "ru_RU.UTF-8", "LC_ALL": ""}, "ru"),
    ],
)
def test_the_language_of_the_terminal_is_that_of_its_locale(environment: dict[str, str], language: str) -> None:
    assert terminal_language(environment) == language


@pytest.mark.parametrize("language", EXAMPLES)
def test_the_request_of_the_greeting_creates_somebody_whom_no_document_creates(language: str) -> None:
    body = EXAMPLES[language]

    user_add_schema("RU").load(body)
    for path in ("README.md", "README.ru.md", "project/contract/schemas.py", "project/api/openapi.py"):
        assert body["username"] not in (ROOT / path).read_text()


def test_problems_are_reported_at_once_and_then_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    now = [1000.0]
    monkeypatch.setattr("project.cli.startup.time", SimpleNamespace(monotonic=lambda: now[0]))
    reports = StartReports()
    for _ in range(130):
        reports.add("PostgreSQL is unavailable: why")
        now[0] += 1

    assert capsys.readouterr().err.count("why\n") == 1
    assert [line.message for line in caplog.records] == ["start not complete"] * 2


@pytest.mark.slow
def test_a_missing_secret_is_named_at_the_start(make_database: MakeDatabase, tmp_path: Path) -> None:
    """F74: issued passwords of another instance would be refused without a word."""
    url = make_database("")
    serve(url, tmp_path, "--migrate")
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "insert into idempotency_keys values ('k', '', gen_random_uuid(), '0badc0de', now() + interval '1 day')"
        )
    connection.close()

    _, errors = serve(url, tmp_path)

    assert "some depend on a secret with key ID 0badc0de; this instance has " in errors.splitlines()[0]
    assert "PASSWORD_SECRET" in errors.splitlines()[0]


def test_a_process_that_serves_does_not_load_alembic(tmp_path: Path) -> None:
    code = "import sys, wsgi; sys.exit('alembic' in sys.modules)"

    subprocess.run(
        [sys.executable, "-c", code], env=environment("postgresql://nobody@/nothing", tmp_path), cwd=ROOT, check=True
    )


def upgrade(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `flask db upgrade`, which must end by itself."""
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade"]
    return subprocess.run(command, env=environment(url, folder), cwd=ROOT, capture_output=True, text=True, timeout=120)


def assert_gave_up(result: subprocess.CompletedProcess[str], sentence: str) -> None:
    """Check that the migration failed with one sentence."""
    assert result.returncode == 1, result.stderr
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_the_migration_command_names_the_cause_of_an_outage(tmp_path: Path) -> None:
    """F73."""
    url = f"postgresql://nobody@{HOST}:{free_port()}/nothing"

    assert_gave_up(upgrade(url, tmp_path), f"PostgreSQL is unavailable: {HOST}:")


@pytest.mark.slow
def test_the_migration_command_does_not_wait_for_a_frozen_postgresql(tmp_path: Path) -> None:
    """The kernel accepts connections for a frozen server, which does not respond."""
    with socket.create_server((HOST, 0)) as frozen:
        url = f"postgresql://nobody@{HOST}:{frozen.getsockname()[1]}/nothing"

        assert_gave_up(upgrade(url, tmp_path), "PostgreSQL is unavailable: ")


@pytest.mark.slow
def test_a_migration_of_another_instance_delays_no_start(make_database: MakeDatabase, tmp_path: Path) -> None:
    url = make_database("")
    with closing(psycopg2.connect(url)) as other, other.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(7164201)")

        assert_gave_up(upgrade(url, tmp_path), "another instance is migrating the database")
        output, _ = serve(url, tmp_path, "--migrate")

    assert "another instance is migrating the database" in output
