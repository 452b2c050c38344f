"""Checks of `flask doctor` about the PostgreSQL server and the replica."""

import math
from collections.abc import Iterator

from project.cli.findings import Finding
from project.domain.errors import DatabaseUnavailableError
from project.http.translations import gettext
from project.queries.maintenance import ping
from project.queries.server_activity import ServerActivity, find_server_activity
from project.runtime import (
    CONNECTIONS,
    READ_CONNECTIONS,
    READ_UPKEEP_CONNECTIONS,
    UPKEEP_CONNECTIONS,
    get_runtime,
)

CONNECTIONS_PER_PROCESS = CONNECTIONS + UPKEEP_CONNECTIONS + READ_CONNECTIONS + READ_UPKEEP_CONNECTIONS
"""Maximum number of connections of a process to PostgreSQL: requests and upkeep, writing and reading."""
STATEMENT_TIMEOUT = "2s"
"""Value of statement_timeout that the service sets in its connection options."""
MAX_LAG_S = 2.0
"""Lag of the replica in seconds above which the check reports a problem."""
NEARLY_FULL = 0.9
"""Fraction of max_connections above which the check reports too few connections."""


def check_server() -> Iterator[Finding]:
    """Yield the findings about the PostgreSQL server. Raises DatabaseUnavailableError."""
    activity = get_runtime().database.run_once(find_server_activity)
    yield _check_sessions(activity)
    yield _check_connections(activity)
    yield _check_standbys(activity)
    if get_runtime().config.database_read_url:
        yield _check_replica()


def _check_sessions(activity: ServerActivity) -> Finding:
    description = gettext("statement_timeout is %(value)s", value=activity.statement_timeout)
    remedy = gettext("a pooler drops our connection options: set them in its connect_query, see deploy/pgbouncer.ini")
    return Finding(gettext("sessions"), description, "" if activity.statement_timeout == STATEMENT_TIMEOUT else remedy)


def _check_connections(activity: ServerActivity) -> Finding:
    needed = CONNECTIONS_PER_PROCESS * get_runtime().config.workers
    counts = {"needed": needed, "used": activity.sessions, "maximum": activity.max_sessions}
    description = gettext("this instance needs up to %(needed)s; %(used)s of %(maximum)s are in use", **counts)
    is_short = needed > activity.max_sessions or activity.sessions > NEARLY_FULL * activity.max_sessions
    remedy = gettext("lower WORKERS, raise max_connections or add PgBouncer") if is_short else ""
    return Finding(gettext("connections"), description, remedy)


def _check_standbys(activity: ServerActivity) -> Finding:
    subject, count, names = gettext("standbys"), activity.standbys, activity.synchronous_standby_names
    if not count and not names:
        return Finding(subject, gettext("none: if this machine is lost, restore from a backup"))
    if not count:
        remedy = gettext("COMMIT hangs: start the standby, or empty synchronous_standby_names")
        return Finding(subject, gettext("none, but COMMIT waits for %(names)s", names=names), remedy)
    if not names:
        remedy = gettext(
            "a failover may lose the last users: set synchronous_mode in Patroni, or synchronous_standby_names"
        )
        return Finding(subject, gettext("%(count)s, but COMMIT waits for none", count=count), remedy)
    return Finding(subject, gettext("%(count)s, and COMMIT waits for %(names)s", count=count, names=names))


def _check_replica() -> Finding:
    lag_s = get_runtime().read_database.measure_lag()
    if math.isinf(lag_s):
        remedy = gettext(
            "start it, or correct DATABASE_READ_URL: it must name a standby; until then the primary is read"
        )
        return Finding(gettext("replica"), gettext("is unavailable: %(cause)s", cause=_cause_of_outage()), remedy)
    remedy = gettext("check its load and the network") if lag_s > MAX_LAG_S else ""
    return Finding(gettext("replica"), gettext("%(seconds)s s behind", seconds=f"{lag_s:.1f}"), remedy)


def _cause_of_outage() -> str:
    replica = get_runtime().read_database.replica
    try:
        if replica is not None:
            replica.run_once(ping)
    except DatabaseUnavailableError as error:
        return error.cause
    return gettext("it does not answer in time")
