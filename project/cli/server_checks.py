"""What `flask doctor` says of the machines around the service: PostgreSQL's sessions, its standbys, a replica."""

import math
from collections.abc import Iterator

from project.cli.findings import Finding
from project.queries.server_activity import ServerActivity, find_server_activity
from project.runtime import CONNECTIONS, READ_CONNECTIONS, get_runtime

OURS = CONNECTIONS + READ_CONNECTIONS + 2
"""Connections that a process may have: its two pools have one more each, for probes."""
BOUND = "2s"
"""The statement_timeout that our sessions ask for."""
LAG_S = 2.0
NEARLY_ALL = 0.9


def server_activity() -> Iterator[Finding]:
    """Look at them. Raises DatabaseUnavailableError."""
    found = get_runtime().database.run_once(find_server_activity)
    yield _sessions(found)
    yield _connections(found)
    yield _standbys(found)
    if get_runtime().config.database_read_url:
        yield _replica()


def _sessions(found: ServerActivity) -> Finding:
    told = f"a statement may take {found.statement_timeout}"
    remedy = "a pooler throws our options away: set them in its connect_query, see deploy/pgbouncer.ini"
    return Finding("sessions", told, "" if found.statement_timeout == BOUND else remedy)


def _connections(found: ServerActivity) -> Finding:
    needed = OURS * get_runtime().config.workers
    told = f"this instance takes up to {needed}, {found.sessions} of {found.max_sessions} are in use"
    if needed > found.max_sessions or found.sessions > NEARLY_ALL * found.max_sessions:
        return Finding("connections", told, "lower WORKERS, raise max_connections, or put PgBouncer between")
    return Finding("connections", told)


def _standbys(found: ServerActivity) -> Finding:
    if not found.standbys and not found.synchronous_standby_names:
        return Finding("standbys", "none: what goes with this machine comes back from a backup")
    if not found.standbys:
        remedy = "no COMMIT ends until it is back, or synchronous_standby_names is emptied"
        return Finding("standbys", f"none, and COMMIT waits for {found.synchronous_standby_names}", remedy)
    if not found.synchronous_standby_names:
        remedy = "a failover may lose the last users: synchronous_mode in Patroni, or synchronous_standby_names"
        return Finding("standbys", f"{found.standbys}, and COMMIT waits for none", remedy)
    return Finding("standbys", f"{found.standbys}, and COMMIT waits for {found.synchronous_standby_names}")


def _replica() -> Finding:
    lag_s = get_runtime().read_database.measure_lag()
    if math.isinf(lag_s):
        remedy = "start it, or correct DATABASE_READ_URL; it has to be a standby. Until then the primary is read"
        return Finding("replica", "does not answer", remedy)
    told = f"{lag_s:.1f} s behind"
    return Finding("replica", told, "" if lag_s <= LAG_S else "look what keeps it busy, or at the network to it")
