"""`./run demo`: serves sample data from a temporary directory."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType

from dotenv import load_dotenv

from config import ROOT, Config, ConfigError
from docs import sample
from project import create_app
from project.cli.common import new_attempt
from project.cli.startup import StartError, prepare_database
from project.contract.schemas import user_add_schema
from project.domain.attempts import NewAttempt
from project.domain.errors import DatabaseUnavailableError
from project.domain.passwords import new_idempotency_key
from project.domain.registration import Credentials
from project.embedded import EmbeddedPostgresError
from project.embedded.locks import locked, stop_using
from project.runtime import get_runtime
from project.services import registration
from tasks.processes import EXIT_ON_INTERRUPT, log

USERS = 40
ADMINISTRATOR = {"name": "Demo Administrator", "username": "demo", "email": "demo@example.org"}
EMPTY_SETTINGS = ("DATABASE_URL", "DATABASE_READ_URL", "MIGRATIONS_DATABASE_URL", "RATELIMIT_STORAGE_URI")
"""Settings that could connect the demo to real data. They are set to "", so that .env does not set them."""


def main() -> None:
    """Serve sample data until Ctrl-C; exit with the code of the service."""
    if sys.argv[1:]:
        sys.exit("run: demo takes no options; PORT and other settings come from the environment")
    load_dotenv(ROOT / ".env")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _data_directory() as directory:
            environment = {**os.environ, **dict.fromkeys(EMPTY_SETTINGS, ""), "DATA_DIR": str(directory)}
            log("run: creating sample data, some seconds ...")
            credentials = _fill(environment)
            log(f"\n  Log in as {credentials.login} with the password {credentials.password}")
            sys.exit(_serve(environment))
    except (ConfigError, EmbeddedPostgresError, StartError, DatabaseUnavailableError) as error:
        sys.exit(f"run: the demo cannot start:\n{error}")


@contextmanager
def _data_directory() -> Iterator[Path]:
    """Yield a new DATA_DIR; at the end, stop its PostgreSQL and remove it."""
    with tempfile.TemporaryDirectory(prefix="useradd-demo-") as name:
        directory = Path(name).resolve()
        try:
            yield directory
        finally:
            postgres = directory / "postgres"
            stop_using(postgres)
            if postgres.exists():
                with locked(postgres / "watcher.lock"):  # held until the server has stopped
                    pass


def _fill(environment: Mapping[str, str]) -> Credentials:
    """Create the tables and data; return the credentials of an administrator."""
    app = create_app(Config.from_environment(environment))
    app.extensions["embedded_postgres"].start()
    prepare_database(app, migrate=True)
    now = datetime.now(sample.NOW.tzinfo)
    sample.insert(app, list(sample.records(now)))
    with app.app_context():
        for attempt, body in sample.users(USERS, now):
            _register(attempt, new_idempotency_key(), body)
        key = new_idempotency_key()
        administrator = _register(new_attempt("./run demo", key), key, ADMINISTRATOR, is_admin=True)
        get_runtime().stop()
    return administrator


def _register(attempt: NewAttempt, key: str, body: dict[str, str], *, is_admin: bool = False) -> Credentials:
    runtime = get_runtime()
    new_user = user_add_schema(runtime.config.phone_region).load(body)
    attempt.store_body(body, runtime.config.phone_region)
    return registration.register(runtime.database, runtime.passwords, attempt, key, new_user, is_admin=is_admin)


def _serve(environment: Mapping[str, str]) -> int:
    """Run the service until Ctrl-C or SIGTERM; return its exit code."""
    with subprocess.Popen([sys.executable, ROOT / "wsgi.py"], env=environment) as service:
        try:
            return service.wait()
        except KeyboardInterrupt:
            service.terminate()  # needed after SIGTERM; a terminal sends Ctrl-C to the service, too
            return service.wait()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # while the data are created
        sys.exit(EXIT_ON_INTERRUPT)
