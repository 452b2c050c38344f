"""F16 to F18, F36, F37: PostgreSQL answers, but takes nothing: read-only, full, locked, locked out, not migrated."""

import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.disks import fill
from tests.chaos.invariants import check
from tests.chaos.load import Client, Load, burst, summary
from tests.chaos.postgres import Postgres
from tests.chaos.processes import eventually
from tests.chaos.proxy import Proxy
from tests.chaos.service import ROOT, Service, environment

ANSWERED_WITHIN_S = 3.6
BACK_WITHIN_S = 5.0
TRIED_AGAIN_S = 2.5
"""A request that is tried again until the deadline takes longer."""
GUEST = "password-of-the-guest"
END_GUESTS = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'guest'"


def _is_back(client: Client) -> bool:
    return client.create().status == 201


@pytest.mark.parametrize(
    ("break_it", "mend_it"),
    [
        ("alter role guest set default_transaction_read_only = on", "alter role guest reset all"),
        ("alter role guest connection limit 0", "alter role guest connection limit -1"),
    ],
    ids=["read-only", "no connections left"],
)
def test_a_server_that_takes_nothing_is_an_outage(
    new_postgres: Callable[[], Postgres], new_service: Callable[..., Service], break_it: str, mend_it: str
) -> None:
    """F16."""
    postgres = new_postgres()
    service = new_service(_as_guest(postgres), WORKERS="1").start()
    with closing(Client(service)) as client:
        assert client.create().status == 201
        postgres.execute(break_it)
        eventually(lambda: not postgres.execute(END_GUESTS), 5, "there are guests still")

        answers = burst(service, requests=10, parallel=5)
        postgres.execute(mend_it)

        assert {(answer.status, answer.code) for answer in answers} == {(503, "database_unavailable")}, summary(answers)
        assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S
        eventually(lambda: _is_back(client), BACK_WITHIN_S, "it does not recover")
    check(postgres, service, answers, allowed_errors=["misconfigured"])


def test_a_full_disk_is_an_outage_until_there_is_room(
    new_postgres: Callable[[], Postgres], new_service: Callable[..., Service]
) -> None:
    """F16: the disk of the tables is full, in earnest. What fits into pages that exist is still taken."""
    postgres = new_postgres()
    disk = postgres.move_to_small_disk(16)
    service = new_service(postgres.url(), WORKERS="1").start()
    with closing(Client(service)) as client:
        first = client.create()
        assert client.log_in(first.json["login"], first.json["password"])
        ballast = fill(disk)
        with Load(service, clients=4, pause_s=0.01) as load:
            eventually(lambda: _causes(service) == {"DiskFull 53100"}, 20, "the disk is never full")
        page, _ = client.get("/results/")
        ballast.unlink()

        assert page == 200
        codes = {answer.code for answer in load.answers}
        assert {"created", "database_unavailable"} <= codes, summary(load.answers)
        assert codes <= {"created", "database_unavailable", "outcome_unknown"}, summary(load.answers)
        assert max(answer.seconds for answer in load.answers) < ANSWERED_WITHIN_S
        eventually(lambda: _is_back(client), BACK_WITHIN_S, "it does not recover")
    check(postgres, service, [first, *load.answers])


def _causes(service: Service) -> set[str]:
    """Return why the service takes PostgreSQL for unavailable."""
    return {line["cause"] for line in service.log_lines() if line.get("message") == "database unavailable"}


def test_a_lock_held_by_somebody_ends_at_the_deadline(postgres: Postgres, service: Service, client: Client) -> None:
    """F17."""
    holder = postgres.connect()
    holder.cursor().execute("begin; lock table users")

    answers = burst(service, requests=4, parallel=4)
    alive = service.get("/livez")
    holder.close()

    assert {answer.status for answer in answers} == {503}, summary(answers)
    assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S
    assert alive == 200
    eventually(lambda: _is_back(client), BACK_WITHIN_S, "it does not recover")
    check(postgres, service, answers)


def test_a_changed_password_is_said_loudly_but_not_all_the_time(
    new_postgres: Callable[[], Postgres], new_service: Callable[..., Service]
) -> None:
    """F18."""
    postgres = new_postgres()
    service = new_service(_as_guest(postgres), WORKERS="1").start()
    client = Client(service)
    assert client.create().status == 201
    postgres.execute("alter role guest password 'second'")
    eventually(lambda: not postgres.execute(END_GUESTS), 5, "there are guests still")

    answers = burst(service, requests=30, parallel=5)
    loud = [line for line in service.log_lines() if line["level"] == "ERROR"]
    postgres.execute(f"alter role guest password '{GUEST}'")

    assert {answer.status for answer in answers} == {503}, summary(answers)
    assert max(answer.seconds for answer in answers) < TRIED_AGAIN_S, summary(answers)
    assert {line["message"] for line in loud} == {"database misconfigured"}
    assert len(loud) <= 2, loud  # one for each way to PostgreSQL
    eventually(lambda: _is_back(client), BACK_WITHIN_S, "it does not recover")
    client.close()
    check(postgres, service, answers, allowed_errors=["misconfigured"])


def test_tables_of_an_older_version_are_an_outage_until_they_are_migrated(
    new_postgres: Callable[[], Postgres], new_service: Callable[..., Service]
) -> None:
    """F37."""
    postgres = new_postgres()
    service = new_service(postgres.url(), WORKERS="1").start()
    _flask(postgres.url(), "db", "downgrade", "0003")

    answers = burst(service, requests=5, parallel=2)
    _flask(postgres.url(), "db", "upgrade")

    assert {answer.status for answer in answers} == {503}, summary(answers)
    client = Client(service)
    eventually(lambda: _is_back(client), BACK_WITHIN_S, "it does not recover")
    client.close()
    check(postgres, service, answers, allowed_errors=["misconfigured"])


def test_a_migration_while_serving_holds_up_nobody(
    postgres: Postgres, proxy: Proxy, service: Service, tmp_path: Path
) -> None:
    """F36. A report is open for as long as the migration tries: it gets its lock only after that.

    An insert waits for a lock as long as one try does. How long that may be is in force on the server, whatever the
    machine is busy with; how long it was, PostgreSQL logs.
    """
    folder = _with_another_migration(tmp_path)
    postgres.set("deadlock_timeout", "10ms")  # after this long a wait is logged
    postgres.set("log_lock_waits", "on")
    before = len(postgres.log.read_text())
    report = postgres.connect()
    report.cursor().execute("begin; select count(*) from attempts")

    def tries() -> set[str]:
        return _pids(postgres, before, "still waiting for AccessExclusiveLock on relation")

    migration = threading.Thread(target=_flask, args=(postgres.url(), "db", "upgrade", "-d", str(folder)))
    with Load(service, clients=4) as load:
        migration.start()
        eventually(lambda: len(tries()) >= 3, 30, "the migration does not try again")
        load.await_answers(len(load.answers) + 50)
        report.close()
        migration.join(30)
    in_force = postgres.execute("select lock_timeout from chaos")
    _flask(postgres.url(), "db", "downgrade", "-d", str(folder))

    assert in_force == [("200ms",)]
    assert _pids(postgres, before, "acquired RowExclusiveLock on relation"), "no insert met the migration"
    assert _pids(postgres, before, "canceling statement due to lock timeout") <= tries(), "an insert gave up"
    assert {answer.code for answer in load.answers} == {"created"}, summary(load.answers)
    check(postgres, service, load.answers)


def _pids(postgres: Postgres, before: int, text: str) -> set[str]:
    """Return the processes of the server that have logged a text since then."""
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


def _as_guest(postgres: Postgres) -> str:
    """Return the address for a role that is no superuser: for these no limit holds."""
    postgres.execute(f"create role guest login password '{GUEST}'")
    for what in ("tables", "sequences", "functions"):
        postgres.execute(f"grant all on all {what} in schema public to guest")
    return f"postgresql://guest:{GUEST}@{postgres.url().rpartition('@')[2]}"


def _flask(url: str, *arguments: str) -> None:
    with tempfile.TemporaryDirectory(prefix="chaos-flask-") as folder:
        command = [sys.executable, "-m", "flask", "--app", "wsgi", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=environment(url, Path(folder)), capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr[-2000:]


def _with_another_migration(tmp_path: Path) -> Path:
    """Return a copy of the migrations with one more, which needs the strongest lock on attempts."""
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
