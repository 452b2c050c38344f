"""F16 to F18, F36, F37: PostgreSQL refuses writes.

It is read-only, full, locked or not migrated, or the password is wrong.
"""

import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.disks import fill_disk
from tests.chaos.invariants import check_invariants
from tests.chaos.load import Client, Load, burst, summarize
from tests.chaos.postgres import Postgres
from tests.chaos.processes import eventually
from tests.chaos.proxy import Proxy
from tests.chaos.service import ROOT, Service, environment

ANSWERED_WITHIN_S = 3.6
BACK_WITHIN_S = 10.0
WITHOUT_RETRIES_S = 2.5
"""A request that retries until its deadline takes longer."""
PASSWORD = "password-of-the-restricted-role"
END_SESSIONS = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'restricted'"


def _is_back(client: Client) -> bool:
    return client.create().status == 201


@pytest.mark.parametrize(
    ("break_it", "fix_it"),
    [
        ("alter role restricted set default_transaction_read_only = on", "alter role restricted reset all"),
        ("alter role restricted connection limit 0", "alter role restricted connection limit -1"),
    ],
    ids=["read-only", "no connections left"],
)
def test_a_read_only_or_exhausted_server_is_an_outage(
    new_postgres: Callable[[], Postgres], new_service: Callable[..., Service], break_it: str, fix_it: str
) -> None:
    """F16."""
    postgres = new_postgres()
    service = new_service(_as_restricted_role(postgres), WORKERS="1").start()
    with closing(Client(service)) as client:
        assert client.create().status == 201
        postgres.execute(break_it)
        eventually(lambda: not postgres.execute(END_SESSIONS), 5, "sessions are still open")

        answers = burst(service, requests=10, parallel=5)
        postgres.execute(fix_it)

        assert {(answer.status, answer.code) for answer in answers} == {(503, "database_unavailable")}, summarize(
            answers
        )
        assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S
        eventually(lambda: _is_back(client), BACK_WITHIN_S, "it did not recover")
    check_invariants(postgres, service, answers, allowed_errors=["misconfigured"])


def test_a_full_disk_of_postgres_is_an_outage_until_space_is_freed(
    new_postgres: Callable[[], Postgres], new_service: Callable[..., Service]
) -> None:
    """F16, with a real full file system for the tables.

    Rows that fit into existing pages are still written.
    """
    postgres = new_postgres()
    disk = postgres.move_to_small_disk(16)
    service = new_service(postgres.url(), WORKERS="1").start()
    with closing(Client(service)) as client:
        first = client.create()
        assert client.log_in(first.json["login"], first.json["password"])
        ballast = fill_disk(disk)
        with Load(service, clients=4, pause_s=0.01) as load:
            eventually(lambda: _causes(service) == {"DiskFull 53100"}, 20, "the disk is never full")
        page, _ = client.get("/results/")
        ballast.unlink()

        assert page == 200
        codes = {answer.code for answer in load.answers}
        assert {"created", "database_unavailable"} <= codes, summarize(load.answers)
        assert codes <= {"created", "database_unavailable", "outcome_unknown"}, summarize(load.answers)
        assert max(answer.seconds for answer in load.answers) < ANSWERED_WITHIN_S
        eventually(lambda: _is_back(client), BACK_WITHIN_S, "it did not recover")
    check_invariants(postgres, service, [first, *load.answers])


def _causes(service: Service) -> set[str]:
    """Return the logged causes of the outage."""
    return {line["cause"] for line in service.log_lines() if line.get("message") == "database unavailable"}


def test_requests_that_wait_for_a_lock_are_answered_at_their_deadline(
    postgres: Postgres, service: Service, client: Client
) -> None:
    """F17."""
    holder = postgres.connect()
    holder.cursor().execute("begin; lock table users")

    answers = burst(service, requests=4, parallel=4)
    alive = service.get("/livez")
    holder.close()

    assert {answer.status for answer in answers} == {503}, summarize(answers)
    assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S
    assert alive == 200
    eventually(lambda: _is_back(client), BACK_WITHIN_S, "it did not recover")
    check_invariants(postgres, service, answers)


def test_a_changed_database_password_is_logged_as_an_error_at_most_once_per_database(
    new_postgres: Callable[[], Postgres], new_service: Callable[..., Service]
) -> None:
    """F18."""
    postgres = new_postgres()
    service = new_service(_as_restricted_role(postgres), WORKERS="1").start()
    client = Client(service)
    assert client.create().status == 201
    postgres.execute("alter role restricted password 'second'")
    eventually(lambda: not postgres.execute(END_SESSIONS), 5, "sessions are still open")

    answers = burst(service, requests=30, parallel=5)
    errors = [line for line in service.log_lines() if line["level"] == "ERROR"]
    postgres.execute(f"alter role restricted password '{PASSWORD}'")

    assert {answer.status for answer in answers} == {503}, summarize(answers)
    assert max(answer.seconds for answer in answers) < WITHOUT_RETRIES_S, summarize(answers)
    assert {line["message"] for line in errors} == {"database misconfigured"}
    assert len(errors) <= 2, errors  # one each for writing and reading
    eventually(lambda: _is_back(client), BACK_WITHIN_S, "it did not recover")
    client.close()
    check_invariants(postgres, service, answers, allowed_errors=["misconfigured"])


def test_tables_of_an_older_version_are_an_outage_until_they_are_migrated(
    new_postgres: Callable[[], Postgres], new_service: Callable[..., Service]
) -> None:
    """F37."""
    postgres = new_postgres()
    service = new_service(postgres.url(), WORKERS="1").start()
    _flask(postgres.url(), "db", "downgrade", "0003")

    answers = burst(service, requests=5, parallel=2)
    _flask(postgres.url(), "db", "upgrade")

    assert {answer.status for answer in answers} == {503}, summarize(answers)
    client = Client(service)
    eventually(lambda: _is_back(client), BACK_WITHIN_S, "it did not recover")
    client.close()
    check_invariants(postgres, service, answers, allowed_errors=["misconfigured"])


def test_a_migration_while_serving_does_not_fail_requests(
    postgres: Postgres, proxy: Proxy, service: Service, tmp_path: Path
) -> None:
    """F36: a migration gets its lock only after several tries.

    A report keeps its transaction open meanwhile. An insert waits at most as long as one try for the lock. The test
    checks the server's lock_timeout and the logged lock waits instead of wall-clock time, which depends on the load of
    the machine.
    """
    folder = _with_another_migration(tmp_path)
    postgres.change_setting("deadlock_timeout", "10ms")  # waits longer than this are logged
    postgres.change_setting("log_lock_waits", "on")
    before = len(postgres.log.read_text())
    report = postgres.connect()
    report.cursor().execute("begin; select count(*) from attempts")

    def tries() -> set[str]:
        return _pids(postgres, before, "still waiting for AccessExclusiveLock on relation")

    migration = threading.Thread(target=_flask, args=(postgres.url(), "db", "upgrade", "-d", str(folder)))
    with Load(service, clients=4) as load:
        migration.start()
        eventually(lambda: len(tries()) >= 3, 30, "the migration does not retry")
        load.await_answers(len(load.answers) + 50)
        report.close()
        migration.join(30)
    in_force = postgres.execute("select lock_timeout from chaos")
    _flask(postgres.url(), "db", "downgrade", "-d", str(folder))

    assert in_force == [("200ms",)]
    assert _pids(postgres, before, "acquired RowExclusiveLock on relation"), "no insert waited for the migration"
    assert _pids(postgres, before, "canceling statement due to lock timeout") <= tries(), "an insert timed out"
    assert {answer.code for answer in load.answers} == {"created"}, summarize(load.answers)
    check_invariants(postgres, service, load.answers)


def _pids(postgres: Postgres, before: int, text: str) -> set[str]:
    """Return the PIDs of server processes that have logged a text after position `before`."""
    lines = [line for line in postgres.log.read_text()[before:].splitlines() if text in line]
    return {line.partition("[")[2].partition("]")[0] for line in lines}


def test_two_migrations_at_once_wait_for_each_other(new_postgres: Callable[[], Postgres]) -> None:
    postgres = new_postgres()
    postgres.execute("create database fresh")
    url = postgres.url(database="fresh")
    threads = [threading.Thread(target=_flask, args=(url, "db", "upgrade")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert postgres.execute("select count(*) from users", database="fresh") == [(0,)]


def _as_restricted_role(postgres: Postgres) -> str:
    """Return a URL for a role that is no superuser, because superusers bypass the limits."""
    postgres.execute(f"create role restricted login password '{PASSWORD}'")
    for kind in ("tables", "sequences", "functions"):
        postgres.execute(f"grant all on all {kind} in schema public to restricted")
    return f"postgresql://restricted:{PASSWORD}@{postgres.url().rpartition('@')[2]}"


def _flask(url: str, *arguments: str) -> None:
    with tempfile.TemporaryDirectory(prefix="chaos-flask-") as folder:
        command = [sys.executable, "-m", "flask", "--app", "wsgi", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=environment(url, Path(folder)), capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr[-2000:]


def _with_another_migration(tmp_path: Path) -> Path:
    """Return a copy of the migrations with one more.

    It needs an ACCESS EXCLUSIVE lock on attempts.
    """
    folder = tmp_path / "migrations"
    shutil.copytree(ROOT / "migrations", folder, ignore=shutil.ignore_patterns("__pycache__"))
    newest = max(path.name[:4] for path in (folder / "versions").glob("0*.py"))
    (folder / "versions" / "9999_alter.py").write_text(
        "from alembic import op\n"
        f"revision = '9999'\ndown_revision = '{newest}'\nbranch_labels = depends_on = None\n"
        "def upgrade():\n"
        "    op.execute(\"create table chaos as select current_setting('lock_timeout') as lock_timeout\")\n"
        "    op.execute('alter table attempts add column chaos integer')\n"
        "def downgrade():\n"
        "    op.execute('drop table chaos')\n"
        "    op.execute('alter table attempts drop column chaos')\n"
    )
    return folder
