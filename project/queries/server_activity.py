"""What PostgreSQL tells of the machines around it: who is connected, who follows."""

from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class ServerActivity:
    """Sessions and standbys, as far as any role may know of them."""

    statement_timeout: str
    """Of this session."""
    room: int
    """Sessions that there may be."""
    in_use: int
    standbys: int
    awaited: str
    """For whom COMMIT waits, as synchronous_standby_names has it; "" for nobody."""


def find_server_activity(connection: Connection) -> ServerActivity:
    """Return what is known of them."""
    told = connection.execute(
        text(
            """
            select current_setting('statement_timeout') as statement_timeout,
                   current_setting('max_connections')::integer
                       - current_setting('superuser_reserved_connections')::integer as room,
                   (select count(*) from pg_stat_activity where datid <> 0) as in_use,
                   (select count(*) from pg_stat_replication) as standbys,
                   current_setting('synchronous_standby_names') as awaited
            """
        )
    )
    return ServerActivity(**told.mappings().one())
