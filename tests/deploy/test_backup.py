"""deploy/backup.sh and restore.sh: what was lost comes back, once, and opens with the same passwords."""

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
from tests.deploy.fronts import DEPLOY

ENDS = "select status, code, count(*)::int from attempts group by 1, 2 order by 1, 2"


@pytest.fixture(scope="module")
def proxy(database: Database) -> Iterator[Proxy]:
    """The way of the service to PostgreSQL, which can be cut."""
    proxy = Proxy(urlsplit(database.url).port or 5432)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def service(database: Database, proxy: Proxy) -> Iterator[Service]:
    """A service that made its secrets itself."""
    address = urlsplit(database.url)
    url = database.url.replace(f":{address.port}/", f":{proxy.port}/")
    service = Service(url).start()
    yield service
    if service.is_running():
        service.term()
    service.close()


def run(script: str, argument: Path, url: str, data_dir: Path) -> "subprocess.CompletedProcess[str]":
    """Run one of the scripts as an administrator would."""
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


def test_a_lost_database_comes_back_with_its_passwords_keys_and_what_waited_on_disk(
    service: Service, database: Database, proxy: Proxy, tmp_path: Path
) -> None:
    with closing(Client(service)) as client:
        before = [client.create() for _ in range(3)]
        proxy.refuse()
        waiting = [client.create() for _ in range(2)]
        backup = run("backup.sh", tmp_path, database.url, service.spool.parent)
        proxy.pass_through()
        eventually(lambda: _ends(database).get("created") == 3 and len(_ends(database)) > 1, 15, "not drained")
        eventually(lambda: client.create(username="probe").status != 503, 15, "the service does not recover")
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
    eventually(lambda: _ends(database).keys() >= {"created", waiting[0].code}, 15, "the spool is not brought in")
    assert _ends(database) == {"created": 3, waiting[0].code: 2}
    with closing(Client(service)) as client:
        assert [client.log_in(*_credentials(answer)) for answer in before] == [True] * 3
        again = client.repeat(before[0])
        assert (again.code, _credentials(again)) == ("replayed", _credentials(before[0]))
        assert not client.log_in(*_credentials(after))
        anew = client.repeat(after)
        assert (anew.code, _credentials(anew)) == ("created", _credentials(after))
    assert database.ask("select count(*)::int from users") == [(4,)]


def _ends(database: Database) -> dict[object, object]:
    return {code: number for _, code, number in database.ask(ENDS)}


def _credentials(answer: Answer) -> tuple[str, str]:
    return answer.json["login"], answer.json["password"]


def test_a_backup_is_readable_by_its_owner_alone_and_old_ones_go(database: Database, tmp_path: Path) -> None:
    data_dir, to = tmp_path / "data", tmp_path / "backups"
    data_dir.mkdir()
    (data_dir / "secret_key").write_text("s")
    old, foreign = to / "2020-01-01T000000Z", to / "notes"
    for folder in (old, foreign):
        folder.mkdir(parents=True)
        os.utime(folder, (0, 0))

    done = run("backup.sh", to, database.url, data_dir)

    made = Path(done.stdout.strip())
    assert {path.name for path in to.iterdir()} == {made.name, "notes"}
    assert [path.name for path in sorted(made.iterdir())] == ["data.tar", "database.dump"]
    assert [path.stat().st_mode & 0o077 for path in (made, *made.iterdir())] == [0, 0, 0]


def test_a_backup_that_fails_leaves_nothing_that_looks_like_one(database: Database, tmp_path: Path) -> None:
    data_dir, to = tmp_path / "data", tmp_path / "backups"
    (data_dir / "spool").mkdir(parents=True)

    done = run("backup.sh", to, Database(database.url, "nowhere").url, data_dir)

    assert done.returncode != 0
    assert list(to.iterdir()) == []


@pytest.mark.parametrize("is_full", [True, False])
def test_nothing_is_restored_over_tables_or_beside_foreign_secrets(
    database: Database, tmp_path: Path, is_full: bool
) -> None:
    data_dir, to = tmp_path / "data", tmp_path / "backups"
    data_dir.mkdir()
    (data_dir / "password_secret").write_text("the one of the backup")
    backup = run("backup.sh", to, database.url, data_dir)
    (data_dir / "password_secret").write_text("another")
    empty = Database(database.url, "empty").create()

    done = run("restore.sh", Path(backup.stdout.strip()), database.url if is_full else empty.url, data_dir)
    tables = empty.ask("select count(*)::int from pg_tables where schemaname = 'public'")
    empty.drop()

    assert done.returncode == 1
    assert ("has tables" if is_full else "is not that of the backup") in done.stderr
    assert tables == [(0,)]
    assert (data_dir / "password_secret").read_text() == "another"


def test_a_database_with_two_roles_comes_back_with_their_rights(postgres_url: str, tmp_path: Path) -> None:
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
