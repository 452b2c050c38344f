"""`flask attempts prune`: deleting old attempts at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from flask.cli import FlaskGroup
from flask.testing import FlaskClient

from tests.conftest import MakeApp, Rows
from tests.functional.attempts import ago, keep

Command = Callable[..., Result]


@pytest.fixture
def prune(make_app: MakeApp, tmp_path: Path, client: FlaskClient) -> Command:
    """Runs `flask attempts prune`."""

    def run(**changes: object) -> Result:
        app = make_app(data_dir=tmp_path, **changes)
        group = FlaskGroup(create_app=lambda: app, load_dotenv=False)
        return app.test_cli_runner().invoke(group, ["attempts", "prune"])

    return run


def test_only_attempts_older_than_the_setting_are_pruned(prune: Command, app: Flask, rows: Rows) -> None:
    for days in (1, 364, 366, 400):
        keep(app, ago(days=days))
    rows.query("update attempts set recorded_at = received_at")

    result = prune()

    assert result.output == "Attempts older than 365 days deleted: 2\n"
    assert min(row["received_at"] for row in rows.attempts()) > ago(days=365)


def test_attempts_are_not_pruned_without_a_retention_period(prune: Command, app: Flask, rows: Rows) -> None:
    keep(app, ago(days=4000))

    result = prune(attempts_keep_days=0)

    assert (result.exit_code, result.output) == (1, "Error: ATTEMPTS_KEEP_DAYS is 0: attempts are kept forever\n")
    assert len(rows.attempts()) == 1


def test_an_outage_of_postgresql_is_reported(prune: Command) -> None:
    result = prune(database_url="postgresql+psycopg2://nobody@127.0.0.1:9/nothing", request_deadline_s=0.5)

    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "127.0.0.1:9: Connection refused" in result.output, "the sentence of libpq"
