"""The statements of the bench fit the tables and the function that the migrations make."""

from contextlib import closing
from pathlib import Path

from sqlalchemy import text

from bench.references import postgres
from project.web.tools import Tools


def test_pgbench_creates_users_by_two_inserts_and_by_our_function(
    tools: Tools, postgres_url: str, tmp_path: Path
) -> None:
    with closing(postgres.connect(postgres_url)) as connection:
        scripts = [postgres.two_inserts(), postgres.useradd(connection)]

    created = []
    for number, script in enumerate(scripts):
        path = tmp_path / "script.sql"
        path.write_text(script)
        created.append(postgres.pgbench(postgres_url, path, clients=2, seconds=1, first=number).transactions)

    assert all(created)
    assert tools.database.read(lambda c: c.execute(text("select count(*) from users")).scalar_one()) >= sum(created)
