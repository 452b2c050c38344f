"""WSGI entry point `app`, also for `flask`. `python wsgi.py` serves, with `--migrate` after migrating the database."""

import os
import sys
from typing import cast

from dotenv import load_dotenv

from config import ROOT, Config, ConfigError
from project import create_app, server
from project.cli import upgrade
from project.domain.errors import DatabaseUnavailableError
from project.embedded import EmbeddedPostgresError
from project.runtime import Runtime
from project.spool import SpoolError

load_dotenv(ROOT / ".env")
try:
    config = Config.from_environment()
    app = create_app(config)
except ConfigError as error:
    sys.exit(f"useradd cannot start:\n{error}")


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    runtime = cast(Runtime, app.extensions["useradd"])
    try:
        runtime.check()
        if embedded_postgres := app.extensions["embedded_postgres"]:
            embedded_postgres.start()
    except SpoolError as error:
        sys.exit(f"useradd cannot start:\nDATA_DIR: {error}")
    except EmbeddedPostgresError as error:
        sys.exit(f"useradd cannot start:\n{error}")
    server.serve(
        app,
        host=config.host,
        port=config.port,
        threads=config.threads,
        workers=config.workers,
        deadline_s=config.request_deadline_s,
        greeting=greeting,
        prepare=prepare if "--migrate" in sys.argv[1:] else None,
        start=runtime.start,
        stopping=runtime.upkeep.begin_stop,
        stop=runtime.stop,
    )


def prepare() -> None:
    """Migrate the database. Exit with EX_TEMPFAIL if PostgreSQL is unavailable."""
    try:
        upgrade(app)
    except DatabaseUnavailableError:
        sys.exit(os.EX_TEMPFAIL)


def greeting(address: str) -> str:
    """Return the message of a successful start: addresses and an example request."""
    return f"""
  useradd is ready.

    Results   {address}/results/
    API docs  {address}/swagger/

  Create a user, then log in with the login and password of the response:

    curl -i {address}/api/v1/useradd/ -H 'Content-Type: application/json' \\
      -d '{{"name": "Иван Петров", "username": "petrov.ivan", "phone": "+7 999 123-45-67"}}'
"""


if __name__ == "__main__":
    main()
