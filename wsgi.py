"""The WSGI application `app`, and the program that serves it.

`python wsgi.py` serves the application. With `--migrate` it first migrates the database.
Importing this module exits with a message if a setting is invalid.
"""

import logging
import os
import signal
import sys
from functools import partial
from typing import cast

from dotenv import load_dotenv

from config import ROOT, Config, ConfigError
from project import create_app, server
from project.admin import imports
from project.api import bulk
from project.cli.greeting import announce
from project.cli.startup import StartError, StartReports, prepare_database
from project.contract import problems
from project.contract.import_runner import MAX_FILE_BYTES
from project.domain.errors import DatabaseUnavailableError
from project.embedded import EmbeddedPostgresError
from project.runtime import Runtime
from project.spool import SpoolError

reports = StartReports()
load_dotenv(ROOT / ".env")
try:
    config = Config.from_environment()
    app = create_app(config)
except ConfigError as error:
    sys.exit(f"useradd cannot start:\n{error}")


def main() -> None:
    """Serve until SIGTERM, SIGHUP or Ctrl-C. Raises SystemExit.

    Exits with a message if the spool or the embedded PostgreSQL cannot be used.
    """
    runtime = cast(Runtime, app.extensions["useradd"])
    try:
        runtime.check_spool()
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
        greeting=lambda address: announce(app, address, reports.first_problem),
        prepare=prepare,
        start=runtime.start,
        begin_stop=runtime.upkeep.begin_stop,
        stop=runtime.stop,
        describe_refusal=partial(problems.describe_refusal, app),
        body_limits=dict.fromkeys(bulk.PATHS, bulk.MAX_BULK_BODY_BYTES) | {imports.UPLOAD_PATH: MAX_FILE_BYTES},
    )


def prepare() -> None:
    """Check the database and, with `--migrate`, migrate it. Runs in a child process.

    Exits with EX_TEMPFAIL if PostgreSQL is unavailable, so that the server retries, and with 1 if the service must not
    start, or also with EX_TEMPFAIL if another problem was reported before. Reports the reason at most once a minute.
    """
    logging.getLogger("project.database").setLevel(logging.CRITICAL)  # it would repeat the reason with every retry
    try:
        for warning in prepare_database(app, migrate="--migrate" in sys.argv[1:]):
            reports.add(warning)
    except DatabaseUnavailableError as error:
        reports.add(f"PostgreSQL is unavailable: {error.cause}")
        sys.exit(os.EX_TEMPFAIL)
    except StartError as error:
        is_first = reports.add(f"useradd cannot start:\n{error}")
        sys.exit(1 if is_first else os.EX_TEMPFAIL)  # after an outage the service is running already


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # while the embedded PostgreSQL starts
        sys.exit(128 + signal.SIGINT)
