"""The bench's statements match the migrated schema.

Its reference servers do comparable work.
"""

from contextlib import closing
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import Client, TestResponse

from bench.references import layers, postgres
from project.runtime import Runtime
from tests.builders import ANNA, useradd
from tests.conftest import Rows

OLGA = ANNA | {"username": "olga", "phone": "8 (912) 555-01-42", "email": "olga@example.org"}


@pytest.mark.slow
def test_pgbench_creates_users_with_two_inserts_and_with_the_useradd_function(
    runtime: Runtime, postgres_url: str, tmp_path: Path
) -> None:
    with closing(postgres.connect(postgres_url)) as connection:
        scripts = [postgres.two_inserts_script(), postgres.useradd_script(connection)]

    created = []
    for number, script in enumerate(scripts):
        path = tmp_path / "script.sql"
        path.write_text(script)
        created.append(postgres.pgbench(postgres_url, path, clients=2, seconds=1, first=number).transactions)
    found = runtime.database.read_transaction(lambda c: c.execute(text("select count(*) from users")).scalar_one())
    runtime.database.write_transaction(
        lambda c: c.execute(text("truncate users, attempts cascade"))
    )  # to delete so many takes long

    assert all(created)
    assert found >= sum(created)


def test_the_leanest_reference_fills_the_same_columns_as_the_service(
    client: FlaskClient, rows: Rows, postgres_url: str
) -> None:
    leanest = layers.leanest(postgres_url, "s" * 32).test_client()

    answers = [useradd(client, ANNA), useradd(leanest, OLGA)]

    assert [answer.status_code for answer in answers] == [201, 201]
    for table in ("attempts", "users", "identifiers", "idempotency_keys"):
        filled = [[name for name, value in row.items() if value is not None] for row in rows.of(table)]
        assert filled[::2] == filled[1::2] != []


def test_server_and_flask_references_respond_with_about_as_many_bytes_as_the_service(client: FlaskClient) -> None:
    service = _size(useradd(client, ANNA))

    alone = [_size(useradd(layers.flask_alone().test_client(), ANNA)), _size(_ask_server_alone())]

    assert [round(size / service, 1) for size in alone] == [1, 1]


def _ask_server_alone() -> TestResponse:
    return Client(layers.server_alone).post(layers.ADDRESS)


def _size(answer: TestResponse) -> int:
    return len(answer.data) + sum(len(f"{name}: {value}") for name, value in answer.headers)
