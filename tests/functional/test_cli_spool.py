"""`flask spool ...`: attempts that are not in PostgreSQL yet."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from flask.cli import FlaskGroup
from flask.testing import FlaskClient

from project.domain.attempts import NewAttempt, new_id
from project.domain.records import AttemptRecord
from project.spool import Spool
from tests.conftest import MakeApp, Rows

Command = Callable[..., Result]


@pytest.fixture
def flask(make_app: MakeApp, tmp_path: Path, client: FlaskClient) -> Command:
    """Runs `flask spool ...` for a service with its own data directory."""

    def run(command: str, **changes: object) -> Result:
        app = make_app(data_dir=tmp_path, **changes)
        group = FlaskGroup(create_app=lambda: app, load_dotenv=False)
        return app.test_cli_runner().invoke(group, ["spool", command])

    return run


@pytest.fixture
def left_behind(tmp_path: Path) -> None:
    """An attempt in the spool of a dead process."""
    now = datetime.now(UTC)
    attempt = NewAttempt(
        id=new_id(now),
        received_at=now,
        started=time.monotonic(),
        method="POST",
        language="en",
        client_address="",
        user_agent="",
        client_request_id=None,
    )
    spool = Spool(tmp_path / "spool")
    spool.append(AttemptRecord.interrupted(attempt).to_line())
    spool.close()


def test_the_status_of_an_empty_spool_is_zero(flask: Command) -> None:
    assert flask("status").output == "Attempts on disk: 0 (0 bytes), in quarantine: 0\n"


@pytest.mark.usefixtures("left_behind")
def test_the_status_counts_spooled_attempts(flask: Command) -> None:
    output = flask("status").output

    assert output.startswith("Attempts on disk: 1 (")
    assert output.endswith(" s, in quarantine: 0\n")


@pytest.mark.usefixtures("left_behind")
def test_drain_stores_spooled_attempts(flask: Command, rows: Rows) -> None:
    assert flask("drain").output == "Attempts drained: 1\n"

    assert rows.outcomes() == [(0, "interrupted")]
    assert flask("drain").output == "Attempts drained: 0\n"


@pytest.mark.usefixtures("left_behind")
def test_an_outage_of_postgresql_is_reported_and_nothing_is_lost(flask: Command) -> None:
    result = flask("drain", database_url="postgresql+psycopg2://u:p@127.0.0.1:1/d")

    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert re.fullmatch(r"Error: PostgreSQL is unavailable: .*Connection refused.*\n", result.output, re.DOTALL)
    assert flask("status").output.startswith("Attempts on disk: 1")
