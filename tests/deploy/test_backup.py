"""deploy/backup.sh and restore.sh restore users, attempts, keys and the spool."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from psycopg2.errors import InsufficientPrivilege

from project.embedded.data_directory import wheel_programs
from tests.chaos.load import Answer, Client
from tests.chaos.processes import eventually
from tests.chaos.proxy import Proxy
from tests.chaos.service import Service, migrate
from tests.conftest import drop_roles, make_roles
from tests.deploy.conftest import Database, execute
from tests.deploy.reverse_proxies import DEPLOY

OUTCOMES = "select status, code, count(*)::int from attempts group by 1, 2 order by 1, 2"


@pytest.fixture(scope="module")
def proxy(database: Database) -> Iterator[Proxy]:
    """A proxy between service and PostgreSQL that can refuse connections."""
    proxy = Proxy(urlsplit(database.url).port or 5432)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def service(database: Database, proxy: Proxy) -> Iterator[Service]:
    """A service that generates its secrets itself."""
    address = urlsplit(database.url)
    url = database.url.replace(f":{address.port}/", f":{proxy.port}/")
    service = Service(url).start()
    yield service
    if service.is_running():
        service.terminate()
    service.close()


def run(script: str, argument: Path, url: str, data_dir: Path) -> "subprocess.CompletedProcess[str]":
    """Run one of the scripts as an administrator does."""
    programs = Path(os.environ.get("TEST_POSTGRES_BIN") or wheel_programs())
    address = urlsplit(url)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": f"{programs.resolve().parents[1]}.libs",
        "DATA_DIR": str(data_dir),
        "PGHOST": str(address.hostname),
        "PGPORT": str(address.port),
        "PGUSER": str(address.username),
        "PGPASSWORD": str(address.password),
        "PGDATABASE": address.path[1:],
    }
    command = [DEPLOY / script, argument]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_a_restored_backup_contains_passwords_idempotency_keys_and_spooled_attempts(
    service: Service, database: Database, proxy: Proxy, tmp_path: Path
) -> None:
    with closing(Client(service)) as client:
        before = [client.create() for _ in range(3)]
        proxy.refuse()
        waiting = [client.create() for _ in range(2)]
        backup = run("backup.sh", tmp_path, database.url, service.spool.parent)
        proxy.pass_through()
        eventually(lambda: _outcomes(database).get("created") == 3 and len(_outcomes(database)) > 1, 15, "not drained")
        eventually(lambda: client.create(username="probe").status != 503, 15, "the service did not recover")
        after = client.create()
    service.kill()
    database.drop()
    shutil.rmtree(service.spool.parent)

    database.create()
    restored = run("restore.sh", Path(backup.stdout.strip()), database.url, service.spool.parent)
    service.start()

    assert (backup.returncode, backup.stderr) == (0, "")
    assert (restored.returncode, restored.stderr) == (0, "")
    assert [answer.status for answer in waiting] == [503, 503]
    eventually(lambda: _outcomes(database).keys() >= {"created", waiting[0].code}, 15, "the spool was not drained")
    assert _outcomes(database) == {"created": 3, waiting[0].code: 2}
    with closing(Client(service)) as client:
        assert [client.log_in(*_credentials(answer)) for answer in before] == [True] * 3
        again = client.repeat(before[0])
        assert (again.code, _credentials(again)) == ("replayed", _credentials(before[0]))
        assert not client.log_in(*_credentials(after))
        recreated = client.repeat(after)
        assert (recreated.code, _credentials(recreated)) == ("created", _credentials(after))
    assert database.execute("select count(*)::int from users") == [(4,)]


def _outcomes(database: Database) -> dict[object, object]:
    return {code: count for _, code, count in database.execute(OUTCOMES)}


def _credentials(answer: Answer) -> tuple[str, str]:
    return answer.json["login"], answer.json["password"]


def test_a_backup_is_readable_only_by_its_owner_and_old_backups_are_deleted(database: Database, tmp_path: Path) -> None:
    data_dir, target = tmp_path / "data", tmp_path / "backups"
    data_dir.mkdir()
    (data_dir / "secret_key").write_text("s")
    old, unrelated = target / "2020-01-01T000000Z", target / "notes"
    for folder in (old, unrelated):
        folder.mkdir(parents=True)
        os.utime(folder, (0, 0))

    done = run("backup.sh", target, database.url, data_dir)

    backup = Path(done.stdout.strip())
    assert {path.name for path in target.iterdir()} == {backup.name, "notes"}
    assert [path.name for path in sorted(backup.iterdir())] == ["data.tar", "database.dump"]
    assert [path.stat().st_mode & 0o077 for path in (backup, *backup.iterdir())] == [0, 0, 0]


def test_a_failed_backup_leaves_no_files(database: Database, tmp_path: Path) -> None:
    data_dir, target = tmp_path / "data", tmp_path / "backups"
    (data_dir / "spool").mkdir(parents=True)

    done = run("backup.sh", target, Database(database.url, "nowhere").url, data_dir)

    assert done.returncode != 0
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("is_full", [True, False])
def test_restore_refuses_existing_tables_and_different_secrets(
    database: Database, tmp_path: Path, is_full: bool
) -> None:
    data_dir, target = tmp_path / "data", tmp_path / "backups"
    data_dir.mkdir()
    (data_dir / "password_secret").write_text("secret of the backup")
    backup = run("backup.sh", target, database.url, data_dir)
    (data_dir / "password_secret").write_text("another secret")
    empty = Database(database.url, "empty").create()

    done = run("restore.sh", Path(backup.stdout.strip()), database.url if is_full else empty.url, data_dir)
    tables = empty.execute("select count(*)::int from pg_tables where schemaname = 'public'")
    empty.drop()

    assert done.returncode == 1
    assert ("has tables" if is_full else "is not that of the backup") in done.stderr
    assert tables == [(0,)]
    assert (data_dir / "password_secret").read_text() == "another secret"


def test_a_restored_database_with_two_roles_keeps_their_privileges(postgres_url: str, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    (data_dir / "spool").mkdir(parents=True)
    database = Database(postgres_url, "two_roles").create()
    roles = make_roles(database.url)
    migrate(roles.owner)
    backup = run("backup.sh", tmp_path / "backups", roles.owner, data_dir)
    database.drop()

    database.create(owner=urlsplit(roles.owner).username)
    make_roles(database.url)
    restored = run("restore.sh", Path(backup.stdout.strip()), roles.owner, data_dir)
    with pytest.raises(InsufficientPrivilege):
        execute(roles.app, "drop table users")
    users = execute(roles.app, "select count(*)::int from users")
    owners = execute(roles.owner, "select distinct tableowner from pg_tables where schemaname = 'public'")
    drop_roles(database.url)
    database.drop()

    assert (restored.returncode, restored.stderr) == (0, "")
    assert (users, owners) == ([(0,)], [(urlsplit(roles.owner).username,)])
