"""Query for sessions and standbys of the PostgreSQL server."""

from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class ServerActivity:
    """Sessions, standbys and settings of a server, as far as every role may read them."""

    statement_timeout: str
    """The statement_timeout of the current session, such as `3s`."""
    max_sessions: int
    """The maximum number of sessions, without those reserved for superusers."""
    sessions: int
    """Number of sessions that are connected to a database."""
    standbys: int
    """Number of connected standbys."""
    synchronous_standby_names: str
    """The standbys for which COMMIT waits; empty if it waits for none."""


def find_server_activity(connection: Connection) -> ServerActivity:
    """Return the activity of the server to which `connection` belongs."""
    row = connection.execute(
        text(
            """
            select current_setting('statement_timeout') as statement_timeout,
                   current_setting('max_connections')::integer
                       - current_setting('superuser_reserved_connections')::integer as max_sessions,
                   (select count(*) from pg_stat_activity where datid <> 0) as sessions,
                   (select count(*) from pg_stat_replication) as standbys,
                   current_setting('synchronous_standby_names') as synchronous_standby_names
            """
        )
    )
    return ServerActivity(**row.mappings().one())
